//! stub
use super::*;
pub(crate) struct Uring;
impl Driver for Uring {
    const NAME: &'static str = "uring";
    const BATCHES: bool = true;
    fn new(_: Arc<Region>, _: usize) -> io::Result<Self> {
        Err(io::Error::from_raw_os_error(libc::ENOSYS))
    }
    fn listen(&mut self, _: Socket) -> io::Result<()> {
        unreachable!()
    }
    fn accept(&mut self) {}
    fn stop_listening(&mut self) {}
    fn connect(&mut self, _: SlotId, _: Socket, _: SocketAddr) {}
    fn adopt(&mut self, _: SlotId, _: Socket) -> io::Result<()> {
        unreachable!()
    }
    fn direct(&self, _: SlotId) -> Option<Direct> {
        None
    }
    fn receive(&mut self, _: SlotId, _: Span) {}
    fn send(&mut self, _: SlotId, _: Span) {}
    fn shut_down(&mut self, _: SlotId) {}
    fn close(&mut self, _: SlotId) {}
    fn turn(&mut self, _: Duration, _: &mut Vec<Completion>) -> io::Result<()> {
        Ok(())
    }
    fn waker(&self) -> Waker {
        unreachable!()
    }
}
