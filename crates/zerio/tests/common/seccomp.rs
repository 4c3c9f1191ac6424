//! A seccomp filter of our own, as containers have them, for one thread and all that it starts, processes too.
//! `unsafe` stands here for the system calls that install it.
#![allow(unsafe_code)]

use std::io;

/// From now on this system call fails with EPERM for this thread and all that it starts.
pub fn forbid(call: libc::c_long) -> io::Result<()> {
    // Where `struct seccomp_data` has the number of the system call.
    const NUMBER: u32 = 0;
    let step = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    // No look at the architecture: this process makes the calls of one only.
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NUMBER, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32, 0, 1),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let filter = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: numbers only. Without it an ordinary user may install no filter.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel copies the filter, whose steps outlive the call.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
