# SPDX-License-Identifier: GPL-2.0-or-later
"""AoE clients: ``scst-bridge aoe`` asks targets about themselves, over raw frames.

Built on scapy, which is slow and takes a while to load. So the daemon must import nothing of this
package, and the command line only what it is about to run.
"""

import logging

# scapy tells on stderr what it misses on this host, which no client needs. It keeps a level that it
# finds set.
logging.getLogger("scapy").setLevel(logging.ERROR)
