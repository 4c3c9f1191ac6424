//! Where and before whom the threads run, and what is set on listening sockets, as Windows tells it: `engines`,
//! `cores`, `priority`.
//! `unsafe` stands here for the calls that ask.

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentThread, GetProcessAffinityMask, GetThreadDescription, GetThreadPriority,
    SetThreadAffinityMask, THREAD_PRIORITY_NORMAL, THREAD_PRIORITY_TIME_CRITICAL,
};
use zerio::{Error, Server};

use crate::hostile::{PATIENCE, RawPeer, config};
use crate::threads::looking;

/// The name of the calling thread, as debuggers show it.
fn thread_name() -> String {
    let mut text = std::ptr::null_mut();
    // SAFETY: the pointer is to a live place for a pointer; the handle of the calling thread is always good.
    let outcome = unsafe { GetThreadDescription(GetCurrentThread(), &mut text) };
    assert!(outcome >= 0, "{outcome:#x}");
    // SAFETY: the call has given a text that ends with a zero, and that is ours until it is freed below.
    let units = (0..).map(|at| unsafe { *text.add(at) }).take_while(|&unit| unit != 0);
    let name = String::from_utf16(&units.collect::<Vec<_>>()).unwrap();
    // SAFETY: the text came from that call, which says to free it so, and is not used any more.
    unsafe { LocalFree(text.cast()) };
    name
}

#[test]
fn the_engines_threads_have_their_names() {
    let (server, seen) = looking(config(|_| {}), thread_name);
    let _peer = RawPeer::welcome(server.local_addr(), "peer");
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), "zerio-server-0");
}

/// The cores that this process may run on, a bit for each.
fn allowed() -> usize {
    let (mut process, mut system) = (0, 0);
    // SAFETY: the pointers are to live places; the handle of the process itself is always good.
    let outcome = unsafe { GetProcessAffinityMask(GetCurrentProcess(), &mut process, &mut system) };
    assert_ne!(outcome, 0, "{}", std::io::Error::last_os_error());
    process
}

/// The cores that the calling thread may run on: Windows tells it only to who changes it.
fn cores() -> usize {
    // SAFETY: the handle of the calling thread is always good, and no memory is touched.
    let before = unsafe { SetThreadAffinityMask(GetCurrentThread(), allowed()) };
    // SAFETY: as above.
    unsafe { SetThreadAffinityMask(GetCurrentThread(), before) };
    before
}

#[test]
fn cores_is_where_the_engines_run() {
    let first = allowed().trailing_zeros() as usize;
    for (chosen, expected) in [(vec![], allowed()), (vec![first], 1 << first)] {
        let (server, seen) = looking(config(|c| c.cores = chosen), cores);
        let _peer = RawPeer::welcome(server.local_addr(), "peer");
        assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), expected);
    }
    assert_eq!(cores(), allowed(), "the thread that starts a server stays free");
}

#[test]
fn regression_a_core_beyond_the_64_of_a_group_was_taken_for_another() {
    for core in [64, 64 + allowed().trailing_zeros() as usize, 100_000] {
        let nowhere = Server::bind("127.0.0.1:0").unwrap().config(config(|c| c.cores = vec![core])).start();
        let Err(Error::Config(error)) = nowhere else { panic!("{nowhere:?}") };
        assert_eq!(error.setting, "cores");
        assert!(error.to_string().contains(&core.to_string()), "{error}");
    }
}

#[test]
fn priority_is_that_of_the_engines_threads() {
    // SAFETY: the handle of the calling thread is always good, and no memory is touched.
    let priority = || unsafe { GetThreadPriority(GetCurrentThread()) };
    for (chosen, expected) in [(None, THREAD_PRIORITY_NORMAL), (Some(1), THREAD_PRIORITY_TIME_CRITICAL)] {
        let (server, seen) = looking(config(|c| c.priority = chosen), priority);
        let _peer = RawPeer::welcome(server.local_addr(), "peer");
        assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), expected);
    }
    assert_eq!(priority(), THREAD_PRIORITY_NORMAL, "the thread that starts a server stays what it is");
}
