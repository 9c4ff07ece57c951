# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux's own NBD client, AoE driver and SCSI disks on this project, in a virtual machine.

How the harness works: `kernel_image` downloads Debian's kernel once into the user's cache;
`initramfs` packs a busybox and the modules that 9p needs; `vm.run_guest` boots both with qemu (TCG,
no KVM needed). The guest's root is the host's own root file system, read-only over 9p, so every
installed program, the checkout and its .venv are at their usual paths; /tmp and /run are empty
tmpfs. A script (`guest/*.sh`, with `guest/prelude.sh` read first) runs there as root. A second,
writable 9p share carries its results out. A boot is expensive, so one script holds several *steps*,
each of which becomes one test: `steps` reads what each step verified.
Add a check: write a function in a guest script, `step` it, and assert its facts in a test.
"""
