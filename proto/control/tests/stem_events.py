"""Reads events by stem's parser, one a line of input: the class wanted, a space, and the bytes in hexadecimal.

Exits with 1 at the first event that stem refuses, reads as another one, or finds an unknown word in.
"""

import logging
import sys

import stem.response
from stem.util import log


class Unknown(logging.Handler):
    """Collects what stem says of words that it does not know."""

    def __init__(self):
        super().__init__()
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage())


unknown = Unknown()
log.get_logger().addHandler(unknown)
log.get_logger().setLevel(logging.DEBUG)

# Words of tor 0.4.9 that stem 1.8 is too old for.
NEWER = ("HS_CLIENT_HSDIR", "HS_SERVICE_HSDIR", "CONTROLLER_WAIT", "CHANNEL_CLOSED")

count = 0
for line in sys.stdin:
    wanted, digits = line.split()
    text = bytes.fromhex(digits).decode()
    event = stem.response.ControlMessage.from_str(text, "EVENT", normalize=True)
    assert type(event).__name__ == wanted, (type(event).__name__, text)
    count += 1
said = [text for text in unknown.said if not any(word in text for word in NEWER)]
assert not said, said
print(f"stem read {count} events")
