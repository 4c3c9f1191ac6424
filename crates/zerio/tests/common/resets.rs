//! What Wine has no way to do.

/// Whether this system resets a connection when asked to. Wine ends it in order first, so that the other side
/// may hear no more than an end.
pub fn has_resets() -> bool {
    !cfg!(windows) || std::env::var_os("WINEUSERNAME").is_none()
}
