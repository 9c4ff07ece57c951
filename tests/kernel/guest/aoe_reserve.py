# SPDX-License-Identifier: GPL-2.0-or-later
"""Sends an AoE Reserve/Release command by the name of any host, and prints the answer's error code.

Usage: aoe_reserve.py INTERFACE SOURCE SHELF SLOT RCMD [MAC...]
The frames are built here, byte by byte, so that the daemon is met with another reading of AoEr11.
"""

from __future__ import annotations

import socket
import sys

ETHERTYPE = 0x88A2
RESERVE_RELEASE = 3
RESPONSE, ERROR = 0x8, 0x4
BROADCAST = b"\xff" * 6
TAG = b"\x80\x00\x00\x01"
TIMEOUT_S = 20.0


def main(interface: str, source: str, shelf: str, slot: str, rcmd: str, *macs: str) -> int:
    """Return 0 if there was an answer that tells of no error."""
    sender, listed = address(source), b"".join(map(address, macs))
    head = BROADCAST + sender + ETHERTYPE.to_bytes(2, "big") + b"\x10\0"
    where = int(shelf).to_bytes(2, "big") + bytes([int(slot), RESERVE_RELEASE]) + TAG
    frame = head + where + bytes([int(rcmd), len(macs)]) + listed
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((interface, ETHERTYPE))
        sock.settimeout(TIMEOUT_S)
        sock.send(frame.ljust(60, b"\0"))
        while True:
            answer = sock.recv(2048)
            # Nobody's interface has the sender's address; what veth delivers is seen all the same.
            if answer[:6] == sender and answer[20:24] == TAG and answer[14] & RESPONSE:
                break
    error = answer[15] if answer[14] & ERROR else 0
    print(f"error {error}, {answer[25]} MACs: {answer[26 : 26 + 6 * answer[25]].hex(' ')}")
    return int(error != 0)


def address(text: str) -> bytes:
    """Return the bytes of a MAC address."""
    return bytes.fromhex(text.replace(":", ""))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
