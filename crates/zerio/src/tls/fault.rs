//! What rustls finds wrong, in this library's words.
#![forbid(unsafe_code)]

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::verifier::{NotPinned, SelfSigned};
use crate::error::{Alert, CertificateFault, TlsFault};

pub(super) fn of(error: &Error) -> TlsFault {
    match error {
        Error::InvalidCertificate(error) => TlsFault::Certificate(of_certificate(error)),
        Error::NoCertificatesPresented => TlsFault::NoCertificate,
        Error::AlertReceived(AlertDescription::ProtocolVersion) => TlsFault::OldVersion,
        Error::AlertReceived(alert) => TlsFault::Alert(Alert(u8::from(*alert))),
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        )
        | Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => TlsFault::OldVersion,
        Error::PeerIncompatible(_) => TlsFault::Incompatible,
        // Who speaks no TLS has been told apart by his first bytes.
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => TlsFault::Unexpected,
        Error::InvalidMessage(InvalidMessage::MessageTooLarge) | Error::PeerSentOversizedRecord => {
            TlsFault::RecordTooLong
        }
        Error::DecryptError => TlsFault::BadRecord,
        Error::InappropriateHandshakeMessage { .. } | Error::InappropriateMessage { .. } => {
            TlsFault::Unexpected
        }
        _ => TlsFault::Misbehaved,
    }
}

fn of_certificate(error: &CertificateError) -> CertificateFault {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => CertificateFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CertificateFault::NotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            CertificateFault::WrongName
        }
        CertificateError::UnknownIssuer => CertificateFault::UnknownAuthority,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            CertificateFault::WrongPurpose
        }
        CertificateError::Revoked => CertificateFault::Revoked,
        CertificateError::Other(other) if other.0.is::<SelfSigned>() => CertificateFault::SelfSigned,
        CertificateError::Other(other) if other.0.is::<NotPinned>() => CertificateFault::NotPinned,
        _ => CertificateFault::Invalid,
    }
}
