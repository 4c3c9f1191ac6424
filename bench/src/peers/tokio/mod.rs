//! tokio, with tokio-util's LengthDelimitedCodec: as its documentation has it, and as fast as that goes. A process is
//! pinned to one core, and there a current-thread runtime is the faster one. What is to be sent is fed to the codec's
//! buffer, and flushed when nothing more is at hand.
#![forbid(unsafe_code)]

mod client;
mod server;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio_util::either::Either;

use crate::failure::Failure;
use crate::job::{Job, Outcome, Task};
use crate::tls;
use crate::wire::HEADER;

/// A socket, or TLS over one, which it reads through a buffer: rustls asks for 4 KiB at a time.
type Transport = Either<TcpStream, TlsStream<BufReader<TcpStream>>>;

/// Messages over it.
type Connection = Framed<Transport, LengthDelimitedCodec>;

/// Buffers of the size that the control writes, in place of tokio-util's 8 KiB: with those a stream takes eight times
/// the system calls.
const BUFFER: usize = 64 * 1024;

pub(crate) fn serve(job: &Job) -> Result<(), Failure> {
    runtime()?.block_on(server::serve(job))
}

pub(crate) fn play(job: &Job) -> Result<Outcome, Failure> {
    match job.task {
        Task::RoundTrip => runtime()?.block_on(client::round_trip(job)),
        Task::Stream => runtime()?.block_on(client::stream(job)),
        Task::Paced => client::paced(job),
        Task::Crowd | Task::Fan | Task::Connect | Task::Hold => Err(Failure::new(
            "tokio's servers are loaded by bare clients here, the same as for every other peer",
        )),
    }
}

fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().enable_io().build()?)
}

fn codec(job: &Job) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .little_endian()
        .length_field_length(HEADER)
        .max_frame_length(job.size.max(64 * 1024))
        .new_codec()
}

/// The client's side of a connection.
async fn connect(job: &Job) -> Result<Transport, Failure> {
    let stream = TcpStream::connect(job.address()?).await?;
    stream.set_nodelay(true)?;
    if !job.tls {
        return Ok(Either::Left(stream));
    }
    let connector = TlsConnector::from(tls::client(job.certificate()?)?);
    let name = tls::NAME.try_into().map_err(Failure::new)?;
    Ok(sealed(connector.connect(name, read_ahead(stream)).await?))
}

/// The server's, of whom it has accepted.
async fn accepted(stream: TcpStream, acceptor: Option<&TlsAcceptor>) -> Result<Transport, Failure> {
    stream.set_nodelay(true)?;
    Ok(match acceptor {
        Some(acceptor) => sealed(acceptor.accept(read_ahead(stream)).await?),
        None => Either::Left(stream),
    })
}

fn read_ahead(stream: TcpStream) -> BufReader<TcpStream> {
    BufReader::with_capacity(BUFFER, stream)
}

/// Without a limit of rustls' own on what it keeps: with its 64 KiB the last bytes of each of the codec's buffers would be
/// a record and a write of their own.
fn sealed(stream: impl Into<TlsStream<BufReader<TcpStream>>>) -> Transport {
    let mut stream = stream.into();
    match &mut stream {
        TlsStream::Client(stream) => stream.get_mut().1.set_buffer_limit(None),
        TlsStream::Server(stream) => stream.get_mut().1.set_buffer_limit(None),
    }
    Either::Right(stream)
}

/// Messages over a socket; with large buffers where a stream is to come, and with small ones where there are many.
fn framed(stream: Transport, job: &Job) -> Connection {
    let many = matches!(job.task, Task::Crowd | Task::Connect | Task::Hold);
    let room = if many { 1024 } else { BUFFER };
    let mut framed = Framed::with_capacity(stream, codec(job), room);
    framed.set_backpressure_boundary(room);
    framed
}

/// The next message: at once, where one is at hand.
#[inline]
fn at_hand<S>(
    framed: &mut Framed<S, LengthDelimitedCodec>,
) -> Option<Option<Result<bytes::BytesMut, std::io::Error>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    framed.next().now_or_never()
}

/// A message as the codec takes it.
fn owned(message: &[u8]) -> Bytes {
    Bytes::copy_from_slice(message)
}
