//! Ctrl-C for a process on Windows. It goes to all that share a console, so the tool gets one of its own,
//! and whoever presses it there is a process of its own too: this test binary, told whom by its environment.
//! `unsafe` stands here for the calls that reach a console.
#![allow(unsafe_code)]

use std::os::windows::process::CommandExt;
use std::process::{Command, Stdio};

use windows_sys::Win32::System::Console::{
    AttachConsole, CTRL_C_EVENT, GenerateConsoleCtrlEvent, SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::Threading::{CREATE_NO_WINDOW, DETACHED_PROCESS};

/// Where the process that presses finds who is meant.
const WHOM: &str = "ZERIO_TEST_CTRL_C";

pub fn with_its_own_console(command: &mut Command) {
    command.creation_flags(CREATE_NO_WINDOW);
}

/// Presses Ctrl-C on the console of the process with this id.
pub fn press(process: u32) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["support::ctrl_c::the_process_that_presses_ctrl_c", "--exact"])
        .env(WHOM, process.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .creation_flags(DETACHED_PROCESS)
        .status();
    assert!(status.expect("it starts").success(), "nobody could press Ctrl-C");
}

/// That process. In a run of the tests it has nothing to do.
#[test]
fn the_process_that_presses_ctrl_c() {
    let Ok(process) = std::env::var(WHOM) else { return };
    let process = process.parse().unwrap();
    // SAFETY: numbers only. This process has no console yet, and is to ignore the Ctrl-C that it presses.
    let pressed = unsafe {
        AttachConsole(process) != 0
            && SetConsoleCtrlHandler(None, 1) != 0
            && GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0) != 0
    };
    assert!(pressed, "{}", std::io::Error::last_os_error());
}
