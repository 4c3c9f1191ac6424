//! What Wine has no way to do.

/// Whether this system resets a connection when asked to. Wine ends it in order first, so that the other side
/// may hear no more than an end.
pub fn has_resets() -> bool {
    !is_wine()
}

/// Whether this system closes the connections of a process that was killed. Wine's server was seen to keep a
/// socket on which something was pending, once in ten times, until the server itself ended.
pub fn closes_for_the_killed() -> bool {
    !is_wine()
}

fn is_wine() -> bool {
    cfg!(windows) && std::env::var_os("WINEUSERNAME").is_some()
}
