#!/usr/bin/env python3
"""Breaks the library in one way after the other, in a copy, and tells how many seeds of `zerio sim` it takes to see it;
or which of the models or tests does.

    tests/mutations/run.py                 every mutation for the simulation, a table in Markdown
    tests/mutations/run.py --tls           every mutation of what is under TLS alone, for the simulation under TLS
    tests/mutations/run.py --models        every mutation for the models
    tests/mutations/run.py --rio           every mutation of the driver for Registered I/O, for its tests over the model
    tests/mutations/run.py --check         nothing is broken: whether each mutation's text still stands once in its file
    tests/mutations/run.py skip 'short'    those whose names have one of these words in them

It needs python3, git and cargo. A mutation whose text is not in its file any more is a failure of this script."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

SEEDS = 1000
FIRST = 0x1000
# A mutated library may turn for ever.
PATIENCE = 300

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = "crates/zerio/src/"

# What is broken, where, and what stands there instead of what.
MUTATIONS = [
    ("an old handle reaches the slot's next session", "send/ring.rs",
     "self.senders.generation.own() == u64::from(generation)",
     "self.senders.generation.own() >= u64::from(generation)"),
    ("a block of the ring is released before it is acked", "send/ring.rs",
     "self.released.publish(after << self.block_bits);",
     "self.released.publish((after + 1) << self.block_bits);"),
    ("more is acked than the kernel took", "send/ring.rs",
     "let acked = reader.acked + bytes as u64;",
     "let acked = reader.acked + if bytes > 0 { span.len() } else { 0 } as u64;"),
    ("what a short send took is sent again", "send/pump.rs",
     "self.give_back(pump, span, bytes);\n        self.ring",
     "let all = bytes == span.len();\n        "
     "self.give_back(pump, span, if all { bytes } else { 0 });\n        self.ring"),
    ("the ring's skip is forgotten", "send/ring.rs",
     "        if start != committed {\n            senders.skip.set(committed);",
     "        if start != committed {\n            let _ = &senders.skip;"),
    ("a sender that can't send directly does not wake the engine", "send/pump.rs",
     "if pumped != Pumped::All {\n            self.bell.ring(self.index);",
     "if pumped != Pumped::All {\n            self.bell.mark(self.index);"),
    ("an engine falls asleep without looking once more", "send/doorbell.rs",
     "if self.marked.any() {",
     "if false {"),
    ("a direct send overtakes the driver's", "send/pump.rs",
     "if pump.in_flight > 0 {\n            // Its completion wakes the engine, which goes on.",
     "if false {\n            // Its completion wakes the engine, which goes on."),
    ("what is clear is not forgotten as its mark is taken", "engine/mod.rs",
     "self.core.take_the_word();\n            for at",
     "for at"),
    ("what came in a nap is handled in the wrong order", "engine/parking.rs",
     "let outcome = self.driver.turn(NAP, &mut self.done);\n        self.done.reverse();",
     "let outcome = self.driver.turn(NAP, &mut self.done);"),
    ("a client that is refused is told that nobody answered", "engine/life.rs",
     "self.conclude(Err(Failure::Refused(code, text)));",
     "let _ = (code, text);\n                self.conclude(Err(Failure::TimedOut));"),
    ("a client hears another reason than the one it was refused for", "engine/life.rs",
     "self.conclude(Err(Failure::Refused(code, text)));",
     "let _ = code;\n                self.conclude(Err(Failure::Refused(RefusalCode::Stopping, text)));"),
    ("messages go before the greeting", "send/pump.rs",
     "let greeting = pump.greeting.next();\n",
     "let message = self.ring.next(&mut pump.reader);\n"
     "        if message.is_some() {\n            return message;\n        }\n"
     "        let greeting = pump.greeting.next();\n"),
    ("what was left is not counted", "engine/life.rs",
     "tallies.messages_undelivered.add(undelivered.messages);",
     ""),
    ("the peer is not told that nothing more comes", "engine/life.rs",
     "self.driver.shut_down(session.id);",
     ""),
    ("the peer's end is overheard", "engine/mod.rs",
     "Ok(0) => session.ended = true,",
     "Ok(0) => {}"),
    ("a message is heard after its session was disconnected", "session/mod.rs",
     "&& !self.paused && !self.muted",
     "&& !self.paused"),
    ("a message is heard while its session is paused", "session/mod.rs",
     "&& !self.paused && !self.muted",
     "&& !self.muted"),
    ("an empty ring goes back to its start though more was committed", "send/ring.rs",
     "if committed != reader.acked {\n            return",
     "if false {\n            return"),
    ("an empty ring goes back to its start and says nowhere where the lap ended", "send/ring.rs",
     "self.senders.skip.set(committed);\n        // Before the word: after",
     "// Before the word: after"),
    ("a session that is resumed does not go on", "engine/mod.rs",
     "let resumed = session.paused && !paused;",
     "let resumed = false;"),
    ("a send's completion is dropped when its session closes", "engine/mod.rs",
     "let index = id.index as usize;\n                let send = &self.core.shared",
     "let index = id.index as usize;\n                "
     "if self.core.table.sessions[index].state == State::Closing {\n                    return;\n                }\n"
     "                let send = &self.core.shared"),
    ("the last byte of a frame is waited for once more", "recv/framer.rs",
     "rest.split_at_checked(len) else {",
     "rest.split_at_checked(len).filter(|(_, rest)| !rest.is_empty()) else {"),
    ("what the handler had heard when it panicked is not counted", "engine/failing.rs",
     "self.silent = true;\n        self.count_handed();",
     "self.silent = true;"),
    ("a handler is called again after it has panicked", "engine/failing.rs",
     "self.silent = true;\n        self.count_handed();",
     "self.count_handed();"),
    ("something is allocated for each message that is sent", "send/pump.rs",
     "if pumped != Pumped::All {\n            self.bell.ring(self.index);",
     "std::hint::black_box(Box::new(0));\n        "
     "if pumped != Pumped::All {\n            self.bell.ring(self.index);"),
    ("a stop allocates", "engine/mod.rs",
     "Vec::with_capacity(slots) }",
     "Vec::new() }"),
    ("a frame that breaks off is told as an end between two", "engine/life.rs",
     "received => Reason::Truncated { received },",
     "_ => Reason::PeerClosed,"),
    ("a bad frame counts twice", "engine/life.rs",
     "if let Reason::BadFrame(_) = reason {\n            self.core.table.sessions[index].muted = true;\n"
     "            self.core.shared.tallies.bad_frames.add(1);",
     "if let Reason::BadFrame(_) = reason {\n            self.core.table.sessions[index].muted = true;\n"
     "            self.core.shared.tallies.bad_frames.add(2);"),
    ("a peer that sends nothing more does not get what was accepted for it", "engine/life.rs",
     "self.end(index, reason);\n            }\n            State::Draining => self.drain(index),",
     "self.abort(index, reason);\n            }\n            State::Draining => self.drain(index),"),
    ("a session goes on when its peer is gone", "engine/mod.rs",
     "if session.ended && !session.paused && !session.awaiting {",
     "if session.ended && !session.paused && !session.awaiting && session.state != State::Open {"),
    ("a message one byte over the limit is let in", "wire.rs",
     "if len <= max { Ok(len) } else",
     "if len <= max + 1 { Ok(len) } else"),
    ("a first frame that is too long is told as a bad id", "engine/life.rs",
     "None => Verdict::Refuse(RefusalCode::BadFrame),",
     "None => Verdict::Refuse(RefusalCode::BadPeerId),"),
    ("a connection that the driver can't take keeps its slot", "engine/life.rs",
     "self.take_back_slot(index);\n                    Rejection::Ended",
     "Rejection::Ended"),
    ("a client that can't begin to connect is never finished", "engine/life.rs",
     "self.take_back_slot(index);\n            if !self.has_another_address()",
     "if !self.has_another_address()"),
    ("bytes that a short send did not take count as sent", "send/pump.rs",
     "self.tallies.bytes_sent.add(bytes as u64);",
     "self.tallies.bytes_sent.add(span.len() as u64);"),
    ("an accept that fails is not counted", "engine/life.rs",
     "self.core.shared.tallies.accept_errors.add(1);",
     ""),
    ("one connection more than may be comes from one address", "session/gate.rs",
     "count as usize >= most",
     "count as usize > most"),
    ("who has left is still counted at his address", "engine/life.rs",
     "server.directory.gate.leave(address);",
     "let _ = address;"),
    ("tokens come back twice as fast", "session/gate.rs",
     "self.credit.saturating_add(waited)",
     "self.credit.saturating_add(2 * waited)"),
    ("tokens do not come back", "session/gate.rs",
     "self.credit.saturating_add(waited)",
     "self.credit.saturating_add(0 * waited)"),
    ("one more than may be say nothing", "engine/admission.rs",
     "unknown >= self.core.limits.handshakes_max",
     "unknown > self.core.limits.handshakes_max"),
    ("who is not admitted comes in all the same", "engine/life.rs",
     "Err((code, refusal)) => self.refuse_saying(index, code, refusal.text()),",
     "Err(_) => {\n                    self.core.table.sessions[index].peer = peer;\n"
     "                    self.shake_hands(index);\n                }"),
    ("whose id is taken hears so before he is admitted", "engine/life.rs",
     "Some(Ok(peer)) if admitted != peer => Verdict::Arrived(peer),",
     "Some(Ok(peer)) if admitted != peer && server.directory.find(peer.as_str()).is_none() => {\n"
     "                        Verdict::Arrived(peer)\n                    }"),
    ("what a log was not told it is not told at the end", "engine/life.rs",
     "if self.core.table.is_empty() {\n            self.tell_untold(Time::NEVER);\n        }",
     ""),
    ("a log is told of each", "engine/admission.rs",
     "self.quiet = now.after(TELLING_PAUSE);",
     "self.quiet = now;"),
    ("a connection whose send has failed is not read on", "engine/loss.rs",
     "State::Open | State::Draining if session.announced && !session.muted && kind != BROKEN => {}",
     "State::Open | State::Draining if false => {}"),
    ("whom somebody disconnects stays", "engine/mod.rs",
     "if requests & request::DISCONNECT != 0 && session.announced && !session.told_to_end {",
     "if false {"),
    ("the deadline of a handshake is not kept", "engine/life.rs",
     "State::Connecting | State::Handshaking => match &self.core.role {",
     "State::Connecting | State::Handshaking if true => session.deadline = Time::NEVER,\n"
     "                State::Connecting | State::Handshaking => match &self.core.role {"),
    ("the deadline of who drains is not kept", "engine/life.rs",
     "State::Draining => {\n                    let reason",
     "State::Draining if true => session.deadline = Time::NEVER,\n"
     "                State::Draining => {\n                    let reason"),
    ("deadlines are twice as far away", "engine/mod.rs",
     "let when = self.shared.clock.now().after(within);",
     "let when = self.shared.clock.now().after(2 * within);"),
    ("who reads too slowly stays", "engine/patience.rs",
     "let Some(limit) = self.limits.slow_peer_timeout else { return };",
     "let Some(limit) = self.limits.slow_peer_timeout.filter(|_| false) else { return };"),
    ("who reads slowly has half the time", "engine/patience.rs",
     "let Some(limit) = self.limits.slow_peer_timeout else { return };",
     "let Some(limit) = self.limits.slow_peer_timeout.map(|limit| limit / 2) else { return };"),
    ("an id is kept for ever", "engine/life.rs",
     "server.directory.leave(&peer, server.engine, id);",
     "let _ = (peer, server);"),
    ("who connects has half the time to say who he is", "engine/life.rs",
     "self.core.set_deadline(index, self.core.limits.handshake_timeout);",
     "self.core.set_deadline(index, self.core.limits.handshake_timeout / 2);"),
    ("tokens come back half as fast", "session/gate.rs",
     "self.credit.saturating_add(waited)",
     "self.credit.saturating_add(waited / 2)"),
    ("a server is full when one more would fit", "session/directory.rs",
     "if entries.len() >= self.sessions_max {",
     "if entries.len() + 1 >= self.sessions_max {"),
    ("a message of seven bytes is told that its session is over", "send/mod.rs",
     "if len <= max { Ok(()) } else { Err(SendError::TooLarge { len, max }) }",
     "if len == 7 { return Err(SendError::Closed); }\n        "
     "if len <= max { Ok(()) } else { Err(SendError::TooLarge { len, max }) }"),
    ("a message of seven bytes is told that there is no room", "send/mod.rs",
     "if len <= max { Ok(()) } else { Err(SendError::TooLarge { len, max }) }",
     "if len == 7 { return Err(SendError::Full); }\n        "
     "if len <= max { Ok(()) } else { Err(SendError::TooLarge { len, max }) }"),
    ("each message is told to be the last of its batch", "engine/mod.rs",
     "let batch_end = !matches!(next, Ok(Some(_)));",
     "let batch_end = true;"),
    ("no message is told to be the last of its batch", "engine/mod.rs",
     "let batch_end = !matches!(next, Ok(Some(_)));",
     "let batch_end = false;"),
    ("whatever a connection was lost by is told as a reset", "engine/mod.rs",
     "Err(error) => return self.abort(index, Reason::Connection(error.kind())),",
     "Err(_) => return self.abort(index, Reason::Connection(std::io::ErrorKind::ConnectionReset)),"),
    ("nobody has patience with a peer that has no room", "engine/patience.rs",
     "let patient = flow == Flow::Closed;",
     "let patient = false;"),
    ("who drains goes on accepting messages", "engine/life.rs",
     "self.core.shared.slots[index].send.close();\n        self.core.shared.bell.ring(index as u32);",
     "self.core.shared.bell.ring(index as u32);"),
]

# The same, for `zerio sim --tls`.
SEALED = [
    ("who is about to go may stay longer when he breaks TLS", "engine/tls.rs",
     "if drains { session.deadline.min(before) } else { session.deadline };",
     "session.deadline;"),
    ("what was committed while a record waited for room is forgotten", "send/sealed.rs",
     "false => ring.look(reader),",
     "false => {}"),
    ("a record that the kernel has taken in part counts as taken", "send/sealed.rs",
     "Of::Ring { bytes, .. } if all => {",
     "Of::Ring { bytes, .. } if all || !self.taken.is_empty() => {"),
    ("of several records one more than the kernel took counts", "send/sealed.rs",
     "batch.taken.saturating_sub(*before) / FULL_RECORD;",
     "batch.taken.saturating_sub(*before).div_ceil(FULL_RECORD).min(*bytes / PLAIN_MAX);"),
    ("what the kernel took of several records is forgotten", "send/sealed.rs",
     "*before += records * FULL_RECORD;\n                *bytes -= records * PLAIN_MAX;\n"
     "                ring.copy_taken(reader, records * PLAIN_MAX);",
     "let _ = (before, bytes, records);"),
    ("a record is left out", "send/sealed.rs",
     "of = Of::Ring { before: at, bytes: span.len() };",
     "of = Of::Ring { before: at, bytes: span.len() };\n            keys.seal(Kind::Data, &[], &mut out[at..]);"),
    ("something is allocated for each batch of records", "send/sealed.rs",
     "of = Of::Ring { before: at, bytes: span.len() };",
     "of = Of::Ring { before: at, bytes: span.len() };\n            std::hint::black_box(Box::new(0));"),
    ("nobody says close_notify", "engine/life.rs",
     "if self.core.says_goodbye(index) {",
     "if false && self.core.says_goodbye(index) {"),
    ("an end without close_notify is told as one in order", "engine/life.rs",
     "State::Handshaking | State::Open if self.core.is_cut_off(index) => {",
     "State::Handshaking | State::Open if false && self.core.is_cut_off(index) => {"),
    ("an end that comes with what a handler does not hear is told as a frame that breaks off", "engine/life.rs",
     "if self.core.table.sessions[index].muted { 0 } else { self.buffers[index].len() }",
     "self.buffers[index].len()"),
    ("a worn key goes on", "send/sealed.rs",
     "if self.renew || keys.are_worn(RECORDS_AT_ONCE) {",
     "if self.renew {"),
    ("a new key is said and not taken", "tls/keys.rs",
     "self.sealer = Sealer::new(sequence, &secrets)?;",
     "let _ = Sealer::new(sequence, &secrets)?;"),
    ("a peer's new key is not taken", "engine/tls.rs",
     "Some(Ok(Some(opener))) => inbound.renew(opener),",
     "Some(Ok(Some(_))) => {}"),
    ("close_notify is overheard", "tls/inbound.rs",
     "[_, CLOSE_NOTIFY] => Ok(News::End),",
     "[_, CLOSE_NOTIFY] => Ok(News::None),"),
    ("a peer's alert is overheard", "tls/inbound.rs",
     "[_, what] => Err(TlsFault::Alert(Alert(*what))),",
     "[_, _] => Ok(News::None),"),
    ("records with nothing in them may come without end", "tls/inbound.rs",
     "if self.empty > EMPTY_MAX {",
     "if self.empty > 2 * EMPTY_MAX {"),
    ("a record in the clear is taken for one that was changed", "tls/record.rs",
     "if header[0] != APPLICATION_DATA {",
     "if false {"),
    ("a record one byte over the limit is waited for", "tls/record.rs",
     "_ if cipher > CIPHER_MAX => Err(TlsFault::RecordTooLong),",
     "_ if cipher > CIPHER_MAX + 1 => Err(TlsFault::RecordTooLong),"),
    ("what is wrong is told before what came before it has been heard", "engine/mod.rs",
     "if session.hears() {\n            if let Err(reason) = self.hand_out(index) {",
     "if session.hears() && unsealed.is_ok() {\n            if let Err(reason) = self.hand_out(index) {"),
    ("who speaks no TLS is refused once more", "engine/tls.rs",
     "if is_plain && before.is_none() {",
     "if is_plain {"),
    ("whom a limit keeps out hears another alert", "engine/tls.rs",
     "[21, 3, 3, 0, 2, 2, 49]",
     "[21, 3, 3, 0, 2, 2, 80]"),
    ("records that came behind the handshake are not looked at", "engine/tls.rs",
     "sessions[index] = Layer::Open(Box::new(opened));\n        self.open_records(index)",
     "sessions[index] = Layer::Open(Box::new(opened));\n        Ok(())"),
]

# The same, for orders in which threads take turns.
MODELS = [
    ("an engine falls asleep without looking once more", "send/doorbell.rs",
     "if self.marked.any() {",
     "if false {"),
    ("a sender may look whether the engine sleeps before others see what it committed", "cursor/commit_word.rs",
     "self.word.swap(to, SeqCst);\n        }\n        as_sequential_as_said();",
     "self.word.store(to, Release);\n        }"),
    ("a stream is not looked at once more when the promise was taken back", "engine/streams.rs",
     "if path(&stream).committed() != stream.committed {",
     "if false {"),
    ("the promise of a stream is taken back without a barrier", "engine/streams.rs",
     "if !self.barrier.as_ref().is_some_and(ProcessBarrier::cross) {",
     "if self.barrier.is_none() {"),
    ("a close does not wait for who holds the ring", "cursor/commit_word.rs",
     "(word & (HELD | OWN) == 0).then_some(word | CLOSED)",
     "Some(word | CLOSED)"),
    ("a claim is committed though the ring was closed", "cursor/commit_word.rs",
     "(word & CLOSED == 0).then_some(to | word & OWN)",
     "Some(to | word & OWN)"),
    ("two senders hold a ring at once", "cursor/commit_word.rs",
     "match self.word.compare_exchange(word, word | HELD, Acquire, Relaxed) {",
     "self.word.store(word | HELD, Relaxed);\n        match Ok::<u64, u64>(word) {"),
    ("a ring is taken from its owner without a barrier", "cursor/owner.rs",
     "cross_barrier();",
     "drop(cross_barrier);"),
    ("who takes a ring away does not look whether its owner holds it", "cursor/owner.rs",
     "!self.holds.load(Acquire)",
     "true"),
    ("an owner does not look whether the ring is his when he has said that he holds it", "cursor/owner.rs",
     "let is_his = self.is_his.load(Relaxed);",
     "let is_his = true;"),
    ("an owner who commits does not let go", "cursor/commit_word.rs",
     "self.word.store(to | OWN, Release);\n        self.owner.let_go();",
     "self.word.store(to | OWN, Release);"),
    ("a ring is given while somebody takes it away", "cursor/commit_word.rs",
     "let Some(_right) = self.owner.right_to_change() else { return false };",
     "let _ = self.owner.right_to_change();"),
    ("two threads have the pump at once", "cursor.rs",
     "if self.taken.load(SeqCst) || self.taken.swap(true, SeqCst) {\n            return None;\n        }",
     "if self.taken.load(SeqCst) {\n            return None;\n        }\n        self.taken.store(true, SeqCst);"),
    ("an old handle reaches the slot's next session", "send/ring.rs",
     "self.senders.generation.own() == u64::from(generation)",
     "self.senders.generation.own() >= u64::from(generation)"),
    ("a full ring is noted, and its mark taken before others see that", "send/mod.rs",
     "cursor::say_then_look();\n            self.bell.ring(self.index);",
     "self.bell.ring(self.index);"),
    ("whoever makes room does not wake the tasks that wait for it", "wait/lobby.rs",
     "            self.waiting.leave();\n            task.wake();",
     "            self.waiting.leave();\n            drop(task);"),
    ("an empty ring goes back to its start while a sender has it", "send/ring.rs",
     "let (Hold::Held(committed) | Hold::Own(committed)) = self.hold() else { return };",
     "let committed = self.word().position();"),
    ("an empty ring goes back to its start though more was committed", "send/ring.rs",
     "if committed != reader.acked {\n            return",
     "if false {\n            return"),
    ("the ring's skip is forgotten", "send/ring.rs",
     "        if start != committed {\n            senders.skip.set(committed);",
     "        if start != committed {\n            let _ = &senders.skip;"),
    ("a block of the ring is released before it is acked", "send/ring.rs",
     "self.released.publish(after << self.block_bits);",
     "self.released.publish((after + 1) << self.block_bits);"),
    ("a holder who lets go does not pass on what he has seen", "cursor/commit_word.rs",
     "self.word.store(word, Release);",
     "self.word.store(word, Relaxed);"),
    ("who holds a ring does not see what the last holder did", "cursor/commit_word.rs",
     "word | HELD, Acquire, Relaxed",
     "word | HELD, Relaxed, Relaxed"),
    ("who reads a ring does not see the bytes up to where it is committed", "cursor/commit_word.rs",
     "self.word.load(SeqCst) & POSITION",
     "self.word.load(Relaxed) & POSITION"),
    ("who gives the pump back does not pass on what he did with it", "cursor.rs",
     "self.0.taken.store(false, Release);",
     "self.0.taken.store(false, Relaxed);"),
    ("a stop does not wake the engine", "session/mod.rs",
     "self.stopping.set(true);\n        self.bell.wake();",
     "self.stopping.set(true);"),
]

# The same, for the tests of the driver for Registered I/O over the model of that.
RIO = [
    ("a completion's status is not looked at", "driver/rio.rs",
     "(status, _) => Err(status::error(status)),",
     "(_, bytes) => Ok(part.start + bytes),"),
    ("a completion may be longer than its request", "driver/rio.rs",
     "(status::SUCCESS, bytes) if bytes > part.len() => Err(ErrorKind::InvalidData.into()),",
     ""),
    ("a send of nothing is a success", "driver/rio.rs",
     "(status::SUCCESS, 0) if way == Way::Send => Err(ErrorKind::WriteZero.into()),",
     ""),
    ("a peer's reset that cancels is told as an end of our own", "driver/rio.rs",
     "if status::is_cancelled(status) && connection.socket.is_some() => {",
     "if false && status::is_cancelled(status) => {"),
    ("requests are not deferred", "driver/rio.rs",
     "Way::Send => unsafe { self.table.send(queue, Some(piece), DEFER, context) },",
     "Way::Send => unsafe { self.table.send(queue, Some(piece), DEFER & 0, context) },"),
    ("sends are not committed", "driver/rio.rs",
     "!deferred[Way::Send as usize] ||",
     "deferred[Way::Send as usize] ||"),
    ("receives are not committed", "driver/rio.rs",
     "!deferred[Way::Receive as usize]",
     "true || deferred[Way::Receive as usize]"),
    ("a commit that fails is not heard of", "driver/rio.rs",
     "if !(sends && receives) {",
     "if false && !(sends && receives) {"),
    ("the queue is not asked again to tell", "driver/rio.rs",
     "self.armed &= !woken.completions;",
     "let _ = woken.completions;"),
    ("the queue is asked to tell before it has told", "driver/rio.rs",
     "        if !self.armed {\n            self.arm()?;",
     "        if true {\n            self.arm()?;"),
    ("what the queue had told is not forgotten when it is asked again", "driver/rio.rs",
     "self.table.reset_told(self.completions);",
     ""),
    ("a queue that says it was asked before is waited for as long as one that will tell", "driver/rio.rs",
     "if self.armed { bound } else { bound.min(ASK_AGAIN) }",
     "bound"),
    ("the completion queue is one too small", "driver/rio.rs",
     "size.saturating_add(refusals::PLACES)",
     "size.saturating_add(refusals::PLACES - 1)"),
    ("a request queue has room for one send less", "driver/rio.rs",
     "sends: SENDS_MAX as u32 };",
     "sends: SENDS_MAX as u32 - 1 };"),
    ("a corrupt queue is taken for a full one", "driver/rio.rs",
     "if taken == CORRUPT {\n                return Err(corrupt());",
     "if taken == CORRUPT {\n                return Ok(());"),
    ("a completion of the slot's session before is taken", "driver/rio.rs",
     "if u64::from(id.generation) != outcome.socket_context {",
     "if false {"),
    ("a completion does not tell which of the sends it is of", "driver/rio/requests.rs",
     "(index << NUMBER_BITS | number as u32) << 1",
     "(index << NUMBER_BITS | number as u32 & 3) << 1"),
    ("sends are given back as the kernel tells of them", "driver/rio/requests.rs",
     "let first = &mut self.requests[self.first];",
     "let is_over = |request: &Request| matches!(request, Request::Over(..));\n"
     "        if let Some(over) = self.requests.iter().position(is_over) {\n"
     "            self.requests.swap(self.first, over);\n        }\n"
     "        let first = &mut self.requests[self.first];"),
    ("a send goes between the two parts of one that lies across registrations", "driver/rio/requests.rs",
     "self.handed_over == self.all || self.is_cut()",
     "self.handed_over == self.all"),
    ("a send goes though the one before it was refused", "driver/rio.rs",
     "sends.refuse_rest(why);",
     "let _ = why;"),
    ("a close does not wait for what is outstanding", "driver/rio.rs",
     "        self.close_socket(id.index);\n        if !self.connections[id.index as usize].is_with_kernel() {",
     "        self.close_socket(id.index);\n        if true {"),
    ("what a closing session has asked for and not handed over does not come back", "driver/rio.rs",
     "connection.sends.refuse_rest(ErrorKind::ConnectionAborted);",
     ""),
    ("a session is closed in order with sends outstanding", "driver/rio.rs",
     "if connection.sends.are_outstanding() {",
     "if false {"),
    ("memory is deregistered while it is used", "driver/rio/settle.rs",
     "        self.outstanding == 0\n",
     "        true\n"),
    ("memory is never deregistered", "driver/rio/settle.rs",
     "for buffer in self.registered.drain(..) {",
     "for buffer in self.registered.drain(1..) {"),
    ("all of a region goes by its first registration", "driver/rio.rs",
     "self.registered[at / T::REGISTRATION_MAX]",
     "self.registered[0 * at]"),
    ("a request is longer than its registration", "driver/rio.rs",
     "(span.len() - from).min(T::REGISTRATION_MAX - offset)",
     "span.len() - from"),
    ("last words are written where others are being read", "driver/rio/refusals.rs",
     "position(|place| !place.outstanding)",
     "position(|_| true)"),
    ("a refused connection is closed before its last words", "driver/rio/refusals.rs",
     "(place.outstanding, place.refused) = (true, Some((socket, queue)));",
     "place.outstanding = true;\n        end(table, index, socket, Some(queue));"),
]


def run(command, folder, patience, env=None):
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=patience, env=env)
        return done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        return None, ""


def attempt(folder, mutation, look):
    """What `look` sees of it."""
    _, name, old, new = mutation
    path = folder / SOURCE / name
    text = path.read_text()
    if text.count(old) != 1:
        return None, f"the text to break stands {text.count(old)} times in {name}"
    path.write_text(text.replace(old, new))
    try:
        return look(folder)
    finally:
        path.write_text(text)


def simulate_under_tls(folder):
    return simulate(folder, "--tls")


def simulate(folder, *flags):
    """How many seeds it took, and what was seen; or why that can't be told."""
    code, output = run(["cargo", "build", "--quiet", "-p", "zerio-cli"], folder, 900)
    if code != 0:
        return None, f"it does not compile: {output[-600:]}"
    tool = folder / "target/debug/zerio"
    code, output = run([tool, "sim", "--seeds", str(SEEDS), "--seed", hex(FIRST), *flags], folder, PATIENCE)
    if code is None:
        return None, f"nothing was seen in {PATIENCE} s: does it turn for ever?"
    found = re.search(r"^seed (0x[0-9a-f]+), step (\d+): (.*)", output, re.MULTILINE)
    if not found:
        return None, f"{SEEDS} seeds did not see it"
    again = re.search(r"^again with: .*zerio.*(sim --seed .*)", output, re.MULTILINE)
    _, repeated = run([tool, *again[1].split()], folder, PATIENCE)
    if found[0] not in repeated:
        return None, f"the command that is printed, {again[0]}, does not repeat it"
    return int(found[1], 16) - FIRST + 1, found[3].split("\n")[0][:100]


def model(folder):
    """How many models failed, and the names of these."""
    env = dict(os.environ, RUSTFLAGS="--cfg loom")
    test = ["cargo", "test", "--quiet", "--release", "-p", "zerio", "--lib"]
    code, output = run([*test, "--no-run"], folder, 900, env)
    if code != 0:
        return None, f"it does not compile: {output[-600:]}"
    code, output = run([*test, "models"], folder, PATIENCE, env)
    if code is None:
        return None, f"nothing was seen in {PATIENCE} s: does it turn for ever?"
    failed = sorted(set(re.findall(r"^    \S*models::(\S+)$", output, re.MULTILINE)))
    return len(failed) or None, ", ".join(failed) or "no model saw it"


def rio(folder):
    """How many tests failed, and the names of these."""
    test = ["cargo", "test", "--quiet", "-p", "zerio", "--lib"]
    code, output = run([*test, "--no-run"], folder, 1800)
    if code != 0:
        return None, f"it does not compile: {output[-600:]}"
    test.remove("--quiet")
    code, output = run([*test, "rio"], folder, PATIENCE)
    if code is None:
        return None, f"nothing was seen in {PATIENCE} s: does it turn for ever?"
    # As each fails: what breaks a driver as it is dropped may end the program before it sums them up.
    failed = sorted(set(re.findall(r"^test driver::(?:rio::|conformance::)(\S+) \.\.\. FAILED$", output, re.MULTILINE)))
    names = ", ".join(name.split("::")[-1] for name in failed[:3])
    return len(failed) or None, names + (", …" if len(failed) > 3 else "") or "no test saw it"


def main():
    if sys.argv[1:] == ["--check"]:
        misfits = [(name, file) for name, file, old, _ in MUTATIONS + SEALED + MODELS + RIO
                   if (ROOT / SOURCE / file).read_text().count(old) != 1]
        for name, file in misfits:
            print(f"{name}: its text does not stand once in {file}")
        sys.exit(1 if misfits else 0)
    kinds = {"--models": (MODELS, model), "--tls": (SEALED, simulate_under_tls), "--rio": (RIO, rio)}
    words = [word for word in sys.argv[1:] if word not in kinds]
    models, tests = "--models" in sys.argv[1:], "--rio" in sys.argv[1:]
    mutations, look = next((kinds[flag] for flag in kinds if flag in sys.argv[1:]), (MUTATIONS, simulate))
    chosen = [m for m in mutations if not words or any(word in m[0] for word in words)]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in listed.splitlines():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
        columns = "models | which fail" if models else "tests | which fail" if tests else "seeds | what the oracle says"
        print(f"| what is broken | {columns} |\n| --- | --- | --- |", flush=True)
        for mutation in chosen:
            seeds, what = attempt(folder, mutation, look)
            missed += seeds is None
            what = what.replace("|", "\\|")
            print(f"| {mutation[0]} | {seeds or 'none'} | {what} |", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
