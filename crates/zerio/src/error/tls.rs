//! What can go wrong between two sides that speak TLS, and which of them is at fault.
#![forbid(unsafe_code)]

use std::fmt;

/// Why TLS ended a session, or kept a connection from becoming one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// The other side does not speak TLS.
    NotTls,
    /// The other side speaks no TLS 1.3, only an older one.
    OldVersion,
    /// Both sides speak TLS 1.3, and have no algorithm in common.
    Incompatible,
    /// The other side's certificate is not accepted.
    Certificate(CertificateFault),
    /// The other side has shown no certificate, and one is required.
    NoCertificate,
    /// The other side ended it with this alert; what is wrong it knows.
    Alert(Alert),
    /// The connection ended without a `close_notify`: what came last may have been cut off by somebody in between.
    Truncated,
    /// A record could not be opened: it was changed, repeated, left out or moved on its way.
    BadRecord,
    /// A record is longer than TLS allows.
    RecordTooLong,
    /// Record after record came with nothing in it.
    EmptyRecords,
    /// What it said before there were keys, certificates above all, does not fit into
    /// [`Config::receive_buffer`](crate::Config::receive_buffer).
    HandshakeTooLong,
    /// A message came that has no place there, or too many of one kind.
    Unexpected,
    /// The other side broke the protocol in some other way.
    Misbehaved,
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsFault::NotTls => f.write_str("it does not speak TLS"),
            TlsFault::OldVersion => f.write_str("it does not speak TLS 1.3"),
            TlsFault::Incompatible => f.write_str("it has no TLS algorithm in common with this side"),
            TlsFault::Certificate(fault) => write!(f, "its certificate {fault}"),
            TlsFault::NoCertificate => f.write_str("it showed no certificate, and one is required"),
            TlsFault::Alert(alert) => write!(f, "it ended the session with the TLS alert {alert}"),
            TlsFault::Truncated => f.write_str(
                "the connection ended without TLS' close_notify: what came last may have been cut off",
            ),
            TlsFault::BadRecord => {
                f.write_str("a TLS record could not be opened: it was changed, repeated, left out or moved")
            }
            TlsFault::RecordTooLong => f.write_str("it sent a TLS record that is too long"),
            TlsFault::EmptyRecords => f.write_str("it sent empty TLS records without end"),
            TlsFault::HandshakeTooLong => f.write_str(
                "its TLS handshake, certificates above all, is longer than this side's receive_buffer",
            ),
            TlsFault::Unexpected => f.write_str("it sent a TLS message that has no place there"),
            TlsFault::Misbehaved => f.write_str("it broke the TLS protocol"),
        }
    }
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateFault {
    /// Its time is over.
    Expired,
    /// Its time has not come; or this machine's clock is wrong.
    NotYetValid,
    /// It is not for the name that was asked for.
    WrongName,
    /// It comes from an authority that is not trusted here.
    UnknownAuthority,
    /// It has signed itself.
    SelfSigned,
    /// Its key is none of those that are expected.
    NotPinned,
    /// It is for another purpose: a server's shown by a client, or the other way round.
    WrongPurpose,
    /// It was revoked.
    Revoked,
    /// It, or what was signed with it, is not in order.
    Invalid,
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CertificateFault::Expired => "has expired",
            CertificateFault::NotYetValid => "is not valid yet, or this machine's clock is wrong",
            CertificateFault::WrongName => "is for another name",
            CertificateFault::UnknownAuthority => "comes from an authority that is not trusted here",
            CertificateFault::SelfSigned => "is signed by itself, and not trusted here",
            CertificateFault::NotPinned => "has another key than those that are expected",
            CertificateFault::WrongPurpose => "is for another purpose",
            CertificateFault::Revoked => "was revoked",
            CertificateFault::Invalid => "is not in order",
        })
    }
}

/// A TLS alert, by its number (RFC 8446, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert(pub u8);

impl Alert {
    /// The name that the RFC gives it.
    pub fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            109 => "missing_extension",
            110 => "unsupported_extension",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            115 => "unknown_psk_identity",
            116 => "certificate_required",
            120 => "no_application_protocol",
            _ => return None,
        })
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}
