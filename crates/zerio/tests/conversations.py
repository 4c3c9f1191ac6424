"""Conversations with a server under TLS 1.3 that echoes messages, led record by record with tlslite-ng: what is at the
edge of the protocol, and over it. Prints each one's name and what came of it: what was echoed, the alert that was heard,
or how it ended.

    python3 conversations.py HOST PORT
"""

import socket
import struct
import sys

from tlslite.api import HandshakeSettings, TLSConnection
from tlslite.constants import AlertDescription, AlertLevel, ContentType, ExtensionType, HandshakeType
from tlslite.errors import TLSAbruptCloseError, TLSLocalAlert, TLSRemoteAlert
from tlslite.extensions import TLSExtension
from tlslite.messages import Alert, Message

HOST, PORT = sys.argv[1], int(sys.argv[2])
PATIENCE = 60
FULL = 1 << 14


def frame(message):
    return struct.pack("<I", len(message)) + message


class Peer(TLSConnection):
    """A client whose messages of the handshake pass through `change` before they are sent."""

    def __init__(self, change=None, groups=None, shares=None):
        connection = socket.create_connection((HOST, PORT), PATIENCE)
        connection.settimeout(PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(connection)
        self.change = change
        settings = HandshakeSettings()
        settings.minVersion = settings.maxVersion = (3, 4)
        if groups is not None:
            settings.eccCurves, settings.dhGroups, settings.keyShares = groups, [], shares
        self.handshakeClientCert(settings=settings)

    def _sendMsg(self, message, *rest, **named):
        if self.change is not None:
            self.change(self, message)
        yield from super()._sendMsg(message, *rest, **named)

    def record(self, kind, data):
        """Sends one record, whatever is in it."""
        for _ in self._recordLayer.sendRecord(Message(kind, bytearray(data))):
            pass

    def raw(self, data):
        """Sends bytes that no key protects."""
        self.sock.sendall(bytes(data))

    def say(self, *messages):
        self.record(ContentType.application_data, b"".join(frame(message) for message in messages))

    def hear(self):
        header = self.read(4, 4)
        if not header:
            raise EOFError
        (length,) = struct.unpack("<I", header)
        return bytes(self.read(length, length)) if length else b""


class Sealed:
    """A peer that the server knows as a session."""

    def __init__(self, misbehave):
        self.misbehave = misbehave

    def __call__(self):
        peer = Peer()
        peer.say(b"a")
        assert peer.hear() == b"a", "let in"
        self.misbehave(peer)
        heard = peer.hear()
        return "echoed " + (heard.decode() if len(heard) < 9 else f"{len(heard)} bytes")


class Shaking:
    """A peer that does something in its handshake."""

    def __init__(self, change, **how):
        self.change, self.how = change, how

    def __call__(self):
        peer = Peer(self.change, **self.how)
        peer.say(b"a")
        return "let in" if peer.hear() == b"a" else "?"


def in_hello(change):
    def changes(peer, message):
        if getattr(message, "handshakeType", None) == HandshakeType.client_hello:
            change(message)

    return changes


def before(handshake_type, act):
    def changes(peer, message):
        if getattr(message, "handshakeType", None) == handshake_type:
            act(peer)

    return changes


def without(extension):
    def change(hello):
        hello.extensions = [other for other in hello.extensions if other.extType != extension]

    return in_hello(change)


def replaced(extension, data):
    def change(hello):
        at = [other.extType for other in hello.extensions].index(extension)
        hello.extensions[at] = TLSExtension(extType=extension).create(extension, bytearray(data))

    return in_hello(change)


def wrong_finished(peer, message):
    if getattr(message, "handshakeType", None) == HandshakeType.finished:
        message.verify_data[0] ^= 1


def then(*records):
    """Sends these records, then a message."""

    def misbehave(peer):
        for kind, data in records:
            peer.record(kind, data)
        peer.say(b"oui")

    return Sealed(misbehave)


def padded(data, zeros):
    def misbehave(peer):
        peer._recordLayer.padding_cb = lambda length, kind, most: b"\0" * zeros
        peer.record(ContentType.application_data, data)
        peer._recordLayer.padding_cb = None
        peer.say(b"oui")

    return Sealed(misbehave)


def byte_by_byte(peer):
    for byte in frame(b"oui"):
        peer.record(ContentType.application_data, bytes([byte]))


def half_close(peer):
    peer.say(b"oui")
    peer.record(ContentType.alert, [AlertLevel.warning, AlertDescription.close_notify])
    peer.say(b"nobody hears this")
    assert peer.hear() == b"oui"
    # What is heard next is to be the end.


def flipped(peer):
    send = peer._recordLayer._recordSocket.send

    def change(message, padding=0):
        message.data[-1] ^= 1
        return send(message, padding)

    peer._recordLayer._recordSocket.send = change
    peer.say(b"oui")


def another_version(peer):
    peer._recordLayer._recordSocket.version = (3, 1)
    peer.say(b"oui")


def asks_for_another_key(peer):
    for _ in peer.send_keyupdate_request(1):
        pass
    peer.say(b"oui")


HANDSHAKE, ALERT, CCS, DATA = (
    ContentType.handshake,
    ContentType.alert,
    ContentType.change_cipher_spec,
    ContentType.application_data,
)
UPDATE = bytes([HandshakeType.key_update, 0, 0, 1])

CONVERSATIONS = {
    # In the handshake.
    "nothing strange": Shaking(None),
    "no key share at first": Shaking(None, groups=["x25519", "secp256r1"], shares=[]),
    "an old version in the ClientHello's place for it": Shaking(in_hello(lambda hello: setattr(hello, "client_version", (3, 1)))),
    "an extension that nobody knows": Shaking(
        in_hello(lambda hello: hello.extensions.insert(0, TLSExtension(extType=0x6A6A).create(0x6A6A, bytearray(9))))
    ),
    "the same extension twice": Shaking(
        in_hello(lambda hello: hello.extensions.extend([TLSExtension(extType=0x6A6A).create(0x6A6A, bytearray())] * 2))
    ),
    "no supported groups": Shaking(without(ExtensionType.supported_groups)),
    "no signature algorithms": Shaking(without(ExtensionType.signature_algorithms)),
    "no version that is known": Shaking(replaced(ExtensionType.supported_versions, [2, 0x7F, 0x1C])),
    "a list of versions that is cut off": Shaking(replaced(ExtensionType.supported_versions, [4, 3, 4])),
    "a ChangeCipherSpec before Finished": Shaking(before(HandshakeType.finished, lambda peer: peer.raw([20, 3, 3, 0, 1, 1]))),
    "a ChangeCipherSpec of 2 there": Shaking(before(HandshakeType.finished, lambda peer: peer.raw([20, 3, 3, 0, 1, 2]))),
    "a ChangeCipherSpec before all else": Shaking(before(HandshakeType.client_hello, lambda peer: peer.raw([20, 3, 3, 0, 1, 1]))),
    "an empty record before all else": Shaking(before(HandshakeType.client_hello, lambda peer: peer.raw([22, 3, 3, 0, 0]))),
    "a record too long before all else": Shaking(
        before(HandshakeType.client_hello, lambda peer: peer.raw(bytes([22, 3, 3, 0x40, 1]) + bytes(FULL + 1)))
    ),
    "data before Finished": Shaking(before(HandshakeType.finished, lambda peer: peer.record(DATA, frame(b"a")))),
    "an empty record of the handshake before Finished": Shaking(
        before(HandshakeType.finished, lambda peer: peer.record(HANDSHAKE, b""))
    ),
    "a Finished that is wrong": Shaking(wrong_finished),
    # After it.
    "a message of a record": then(),
    "a message byte by byte": Sealed(byte_by_byte),
    "an empty record of data": then((DATA, b"")),
    "a full record": Sealed(lambda peer: peer.say(bytes(FULL - 4))),
    "one byte too many in a record": then((DATA, frame(bytes(FULL - 3)))),
    "a message and as many zeros as a record has room for": padded(frame(b"non"), FULL - 7),
    "one zero more": padded(frame(b"non"), FULL - 6),
    "nothing but zeros": Sealed(lambda peer: peer.record(0, b"")),
    "one flipped bit": Sealed(flipped),
    "another version on the record": Sealed(another_version),
    "an empty record of the handshake": then((HANDSHAKE, b"")),
    "an empty record of alerts": then((ALERT, b"")),
    "half an alert": then((ALERT, b"\1")),
    "two alerts in a record": then((ALERT, [1, 90, 1, 90])),
    "a warning that the user has cancelled": then((ALERT, [AlertLevel.warning, AlertDescription.user_canceled])),
    "a fatal alert": then((ALERT, [AlertLevel.fatal, AlertDescription.internal_error])),
    "close_notify, and data behind it": Sealed(half_close),
    "a ChangeCipherSpec in the clear": then((CCS, b"\1")),
    "a record of a kind that nobody knows": then((99, b"?")),
    "a record of data in the clear": Sealed(lambda peer: peer.raw(bytes([23, 3, 3, 0, 40]) + bytes(40))),
    "a request for another key": Sealed(asks_for_another_key),
    "a KeyUpdate of 2": then((HANDSHAKE, UPDATE + b"\2")),
    "a KeyUpdate with something behind it": then((HANDSHAKE, UPDATE + b"\0" + UPDATE)),
    "half a KeyUpdate, then data": then((HANDSHAKE, UPDATE)),
    "a ClientHello": then((HANDSHAKE, bytes([HandshakeType.client_hello, 0, 0, 1, 0]))),
    "a Finished": then((HANDSHAKE, bytes([HandshakeType.finished, 0, 0, 1, 0]))),
    "a ticket": then((HANDSHAKE, bytes([HandshakeType.new_session_ticket, 0, 0, 1, 0]))),
    "a message of 16 MiB": then((HANDSHAKE, bytes([HandshakeType.key_update, 255, 255, 255]))),
    "nothing strange after all that": Shaking(None),
}

for name, conversation in CONVERSATIONS.items():
    try:
        outcome = conversation()
    except TLSRemoteAlert as error:
        outcome = AlertDescription.toRepr(error.description)
    except EOFError:
        outcome = "close_notify"
    except TLSLocalAlert:
        outcome = "an answer that is no TLS"
    except (TLSAbruptCloseError, ConnectionError):
        outcome = "cut off"
    print(f"{name}: {outcome}", flush=True)
