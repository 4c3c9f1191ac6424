//! How a storm ends: nothing goes wrong any more, what was accepted comes, who comes gets in, and everybody stops.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::Storm;
use crate::driver::sim::Faults;
use crate::sim::member::Pace;

/// A calm in which something is still missing after so long is no calm.
const CALM: Duration = Duration::from_secs(2);

/// After so long there is a token for one more, however few connections may come in a second.
const TOKEN: Duration = Duration::from_millis(60);

/// How long the end may take, where nothing is in its way: less than any deadline.
const END: Duration = Duration::from_secs(3);

/// So many steps of calm and end are a machine that does not come to rest.
const REST_STEPS: u64 = 400_000;

impl Storm {
    /// Nothing goes wrong any more, and nobody says anything new: what was accepted must come.
    pub(super) fn calm_down(&mut self) -> Result<(), String> {
        let room = self.world.faults().room;
        self.world.set_faults(Faults { room, ..Faults::none() });
        self.ledger.borrow_mut().calm = true;
        for member in &mut self.world.members {
            member.heal();
            member.pace = match member.pace {
                Pace::Polled { .. } => Pace::Polled { every: 40_000 },
                Pace::Thread { spin, .. } => Pace::Thread { spin, naps: 0 },
            };
        }
        for raw in &mut self.raws {
            raw.close();
        }
        while !self.paused.borrow().is_empty() || !self.paused_ids.is_empty() {
            self.resume_one();
        }
        let quiet = |storm: &Storm| storm.ledger.borrow().missing().is_none();
        // To go over all sessions takes its time.
        match self.rest(CALM, 16, quiet)? {
            true => Ok(()),
            false => Err(self.ledger.borrow().missing().unwrap_or_default()),
        }
    }

    /// Somebody who comes now, when there is room, gets in, and can send the longest message at once.
    pub(super) fn let_one_in(&mut self) -> Result<(), String> {
        // Connections of peers that are gone have their places until their deadlines.
        let deadlines = self.config.handshake_timeout + self.config.drain_timeout;
        self.rest(2 * deadlines, 1, |_| false)?;
        let untold = self.clients.iter().find(|client| !client.concluded);
        if let Some(client) = untold {
            return Err(format!("{:?}: its user was never told whether it began", client.end));
        }
        let ledger = self.ledger.borrow();
        if let Some(what) = ledger.forgotten().or_else(|| ledger.unheeded()) {
            return Err(what);
        }
        drop(ledger);
        self.let_in("late".into())?;
        // Whoever had an id before is gone, and keeps it from nobody. There is a token for him, too.
        self.rest(TOKEN, 1, |_| false)?;
        match self.free_id() {
            Some(id) => self.let_in(id),
            None => Ok(()),
        }
    }

    /// An id that somebody has had, and nobody has.
    fn free_id(&self) -> Option<String> {
        let ledger = self.ledger.borrow();
        let mut ids = (0..self.ids).map(|n| format!("c{n}"));
        ids.find(|id| ledger.find(self.servers, id).is_none() && ledger.has_been(self.servers, id))
    }

    fn let_in(&mut self, id: String) -> Result<(), String> {
        let Some(server) = &self.server else { return Ok(()) };
        let fit = |node: &usize| {
            let member = &self.world.members[*node];
            !member.is_finished() && !self.ledger.borrow_mut().book(*node).stopped
        };
        let crowded = server.directory.is_full() || self.ledger.borrow().may_be_crowded();
        if crowded || !server.nodes.iter().all(fit) {
            return Ok(());
        }
        let end = self.client_joins(id);
        let is_in =
            |storm: &Storm| storm.ledger.borrow().is_open(end) && storm.ledger.borrow().is_open(end.other());
        if !self.rest(CALM, 1, is_in)? {
            return Err(format!("{end:?} came to a server with room, in a calm, and did not get in"));
        }
        self.send_longest(end)?;
        match self.rest(CALM, 16, |storm| storm.ledger.borrow().missing().is_none())? {
            true => Ok(()),
            false => Err(self.ledger.borrow().missing().unwrap_or_default()),
        }
    }

    /// Everybody stops, and must come to an end.
    pub(super) fn end(&mut self) -> Result<(), String> {
        let begun = self.world.now();
        self.stop_server();
        (0..self.clients.len()).for_each(|at| self.stop_client(at));
        let over = |storm: &Storm| storm.world.members.iter().all(|member| member.is_finished());
        if !self.rest(END, 1, over)? {
            return Err(self.unfinished());
        }
        let took = self.world.now() - begun;
        if took >= self.config.drain_timeout {
            return Err(format!("a stop with nothing in its way took {took:?}"));
        }
        let mut ledger = self.ledger.borrow_mut();
        ledger.check_refusals();
        let what = ledger.failure.take().or_else(|| ledger.unended());
        what.map_or(Ok(()), Err)
    }

    /// An engine that was stopped and did not end, and what is left in it.
    fn unfinished(&self) -> String {
        let clients = self.clients.iter().map(|client| (client.node, &client.engine));
        let server = self.server.iter().flat_map(|server| server.nodes.iter().copied().zip(&server.engines));
        let mut left = clients.chain(server).filter(|(node, _)| !self.world.members[*node].is_finished());
        let what = left.next().map(|(node, engine)| {
            let slot = engine.borrow().fault_at_rest(self.config.receive_buffer);
            format!("engine {node} was stopped and did not end: {}", slot.unwrap_or_default())
        });
        what.unwrap_or_default()
    }

    /// Goes on until it is `done`, which it looks at every so many steps, for so long at the most.
    fn rest(&mut self, bound: Duration, every: u64, done: impl Fn(&Storm) -> bool) -> Result<bool, String> {
        let (end, most) = (self.world.now() + bound, self.world.steps + REST_STEPS);
        loop {
            self.world.rouse();
            let over = self.world.now() >= end || self.world.net.next_at().is_none();
            if (over || self.world.steps.is_multiple_of(every)) && done(self) {
                self.look_around()?;
                return Ok(true);
            }
            if over {
                return Ok(false);
            }
            self.step()?;
            self.acts = false;
            if self.world.steps >= most {
                return Err(format!("{REST_STEPS} steps without anything new, and no rest"));
            }
        }
    }
}
