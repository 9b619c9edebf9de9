"""A real SMTP server (aiosmtpd) for tests: takes every mail and writes it down as JSON, one file per mail, in the folder given.

    python smtp_sink.py FOLDER PORT

A recipient whose local part begins with `refused` is refused for good (550), one that begins with `later` at the first two attempts (451).
"""

import asyncio
import collections
import email
import email.policy
import json
import os
import signal
import sys

from aiosmtpd.smtp import SMTP


class Sink:
    def __init__(self, folder):
        self.folder = folder
        self.count = 0
        self.attempts = collections.Counter()

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refused"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("later"):
            self.attempts[address] += 1
            if self.attempts[address] <= 2:
                return "451 4.7.1 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)

        def part(kind):
            found = message.get_body(preferencelist=(kind,))
            return found.get_content() if found else None

        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": {name.lower(): str(value) for name, value in message.items()},
            "text": part("plain"),
            "html": part("html"),
        }
        self.count += 1
        path = os.path.join(self.folder, f"{self.count:08}.json")
        with open(path + ".part", "w", encoding="utf-8") as file:
            json.dump(mail, file)
        os.rename(path + ".part", path)
        return "250 taken"


async def main():
    folder, port = sys.argv[1], int(sys.argv[2])
    sink = Sink(folder)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await loop.create_server(lambda: SMTP(sink, enable_SMTPUTF8=True, hostname="sink.example"), "127.0.0.1", port)
    await stop.wait()


asyncio.run(main())
