#!/usr/bin/env python3
"""A zerio client in plain Python 3: says who it is, sends a line, prints what comes back.

    python3 client.py HOST PORT ID TEXT        (see docs/protocol.md)
"""
import socket
import struct
import sys


def send(connection, message):
    connection.sendall(struct.pack("<I", len(message)) + message)


def receive(stream):
    header = stream.read(4)
    if len(header) < 4:
        sys.exit("the server closed the connection")
    return stream.read(struct.unpack("<I", header)[0])


host, port, peer_id, text = sys.argv[1:]
with socket.create_connection((host, int(port)), timeout=30) as connection:
    stream = connection.makefile("rb")
    send(connection, peer_id.encode())  # the handshake: our id there and back
    answer = receive(stream)
    if answer[:1] == b"\0":
        sys.exit(f"refused ({answer[1]}): {answer[2:].decode()}")
    send(connection, text.encode())
    print(receive(stream).decode())
