//! What a server or client is before it starts: its handlers and its configuration.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::engine::Context;
use crate::error::Disconnection;
use crate::handler::{Closures, Nothing};

/// A server or client before its start, made by [`Server::bind`](crate::Server::bind) or
/// [`Client::connect`](crate::Client::connect): give it handlers and a configuration, then start it.
#[derive(Debug)]
#[must_use = "nothing happens before `start` or `start_polled`"]
pub struct Builder<T, H = Nothing> {
    pub(crate) target: T,
    pub(crate) handler: H,
    pub(crate) config: Config,
}

impl<T> Builder<T> {
    pub(crate) fn new(target: T) -> Builder<T> {
        Builder { target, handler: Nothing::default(), config: Config::default() }
    }
}

impl<T, H> Builder<T, H> {
    /// Sets the configuration; it is checked at the start.
    pub fn config(self, config: Config) -> Builder<T, H> {
        Builder { config, ..self }
    }

    /// Sets a [`Handler`](crate::Handler) of your own, in place of closures.
    pub fn handler<N>(self, handler: N) -> Builder<T, N> {
        Builder { target: self.target, handler, config: self.config }
    }
}

impl<T, C, M, D, A> Builder<T, Closures<C, M, D, A>> {
    /// What to do when a session begins.
    pub fn on_connected<N>(self, connected: N) -> Builder<T, Closures<N, M, D, A>>
    where
        N: FnMut(&mut Context<'_>),
    {
        let Closures { message, disconnected, admit, .. } = self.handler;
        let handler = Closures { connected, message, disconnected, admit };
        Builder { target: self.target, handler, config: self.config }
    }

    /// What to do with each message.
    pub fn on_message<N>(self, message: N) -> Builder<T, Closures<C, N, D, A>>
    where
        N: FnMut(&mut Context<'_>, &[u8]),
    {
        let Closures { connected, disconnected, admit, .. } = self.handler;
        let handler = Closures { connected, message, disconnected, admit };
        Builder { target: self.target, handler, config: self.config }
    }

    /// What to do when a session ends.
    pub fn on_disconnected<N>(self, disconnected: N) -> Builder<T, Closures<C, M, N, A>>
    where
        N: FnMut(&mut Context<'_>, &Disconnection),
    {
        let Closures { connected, message, admit, .. } = self.handler;
        let handler = Closures { connected, message, disconnected, admit };
        Builder { target: self.target, handler, config: self.config }
    }
}
