# SPDX-License-Identifier: GPL-2.0-or-later
"""What sg3_utils must say of the daemon's disks; what runs is in `guest/sg3_utils.sh`.

Data only: for each step some of the lines that it prints, in their order and without surplus
blanks.
"""

from __future__ import annotations

IDENTIFIED = """\
PQual=0 PDT=0 RMB=1 LU_CONG=0 hot_pluggable=0 version=0x06 [SPC-4]
EncServ=0 MultiP=1 (VS=0) [MChngr=0] [ACKREQQ=0] Addr16=0
[RelAdr=0] WBus16=0 Sync=0 [Linked=0] [TranDis=0] CmdQue=1
length=96 (0x60) Peripheral device type: disk
Vendor identification: SCST_FIO
Product identification: tools
SAM-5 (no version claimed)
SPC-4 (no version claimed)
SBC-3 (no version claimed)
Logical block provisioning: lbpme=1, lbprz=1
Last LBA=131071 (0x1ffff), Number of logical blocks=131072
Logical block length=512 bytes
Device size: 67108864 bytes, 64.0 MiB, 0.07 GB
Lun list length = 16 which imples 2 lun entries
0000000000000000"""

VITAL_PRODUCT_DATA = """\
Supported VPD pages [sv]
Unit serial number [sn]
Device identification [di]
Extended inquiry data [ei]
Mode page policy [mpp]
SCSI ports [sp]
Block limits (SBC) [bl]
Block device characteristics (SBC) [bdc]
Logical block provisioning (SBC) [lbpv]
designator type: T10 vendor identification, code set: ASCII
vendor id: SCST_FIO
designator type: NAA, code set: Binary
0x3000000000000003
UASK_SUP=0 GROUP_SUP=0 PRIOR_SUP=0 HEADSUP=1 ORDSUP=1 SIMPSUP=1
vendor specific: scst_local/tool0
vendor specific: scst_local/tool1
Write same non-zero (WSNZ): 1
Maximum compare and write length: 255 blocks
Unmap command supported (LBPU): 1
Write same (16) with unmap bit supported (LBPWS): 1
Write same (10) with unmap bit supported (LBPWS10): 1
Provisioning type: 2 (thin provisioned)"""

MODE_PAGES = """\
Mode parameter header from MODE SENSE(10):
Read-Write error recovery, page_control: current
Disconnect-Reconnect, page_control: current
Format (obsolete), page_control: current
Rigid disk geometry (obsolete), page_control: current
Caching, page_control: current
Control, page_control: current
Informational exceptions control, page_control: current
Mode parameter header from MODE SENSE(6):"""

# The write cache goes off and on.
MODE_SELECT = """\
00 08 12 00 00 00 00 00 00 00 00 00 00 00 00 00 00
00 08 12 04 00 00 00 00 00 00 00 00 00 00 00 00 00"""

# The blocks that are mapped, among others that are not.
LBA_STATUS = """\
0x0000000000000000 0x400 1 0
0x0000000000000400 0x400 0 0
0x0000000000000800 0x1f800 1 0
0x00000000000005dc 0x224 0 0
0x0000000000000800 0x1f800 1 0"""

OPCODES = """\
2a 10 1 60 Write(10)
7f b 32 1 60 Write(32)
88 16 1 60 Read(16)
9c 16 1 60 Write atomic(16)
9e 12 16 1 60 Get LBA status(16)
a3 a 12 1 10 Report target port groups
Command is supported [conforming to SCSI standard]
Usage data: 2a 18 ff ff ff ff 00 ff ff 00
Usage data: 9e 12 ff ff ff ff ff ff ff ff ff ff ff ff 00 00
Command is NOT supported
Abort task
Abort task set
Clear task set
Logical unit reset
I_T nexus reset"""

LOGS = """\
0x00 Supported log pages [sp]
0x02 Write error [we]
0x03 Read error [re]
0x0c Logical block provisioning [lbp]
0x0d Temperature [temp]
0x15 Background scan results [bsr]
0x19 General Statistics and Performance [gsp]
0x2f Informational exceptions [ie]
Total uncorrected errors = 0
Scope: dedicated to lu
IE asc = 0x0, ascq = 0x0"""

RESERVATIONS = """\
Persist Through Power Loss Capable(PTPL_C): 1
PR generation=0x2, 2 registered reservation keys follow:
0xa1
0xb2
Key=0xa1
scope: LU_SCOPE, type: Exclusive Access
PR out (Reserve): Reservation conflict
VERIFY(10): Reservation conflict
PR generation=0x3
Key=0xb2
<< Reservation holder >>
scope: LU_SCOPE, type: Write Exclusive, registrants only
PR generation=0x4, there are NO registered reservation keys
Additional sense: Registrations preempted"""

COPIES = """\
sg_xcopy: 2048 blocks, 1 command
verified: copied to another disk
sg_xcopy: 2048 blocks, 1 command
verified: copied on the disk
Segment descriptor 0x02: Copy from block device to block device
Target descriptor 0xe4: Identification descriptor"""

DIAGNOSTICS = """\
Default self-test returned GOOD status
0x00 Supported diagnostic pages
Fixed format, current; Sense key: No Sense
Descriptor format, current; Sense key: No Sense"""

SAYS = {
    "identify": IDENTIFIED,
    "vital_product_data": VITAL_PRODUCT_DATA,
    "mode_pages": MODE_PAGES,
    "mode_select": MODE_SELECT,
    "opcodes": OPCODES,
    "logs": LOGS,
    "target_port_groups": "Report target port groups:",
    "lba_status": LBA_STATUS,
    "unmap": """\
verified: unmapped blocks are zeros, their neighbours as before
sg_unmap failed: LBA out of range""",
    "write_same": """\
verified: blocks are the same
verified: without data they are zeros""",
    "compare_and_write": """\
verified: written where equal
Miscompare at byte offset: 0 [0x0]
verified: left where not""",
    "verify_medium": "VERIFY(10) MISCOMPARE: started at LBA 0x1",
    "reservations": RESERVATIONS,
    "buffers": "verified: echoed",
    "diagnostics": DIAGNOSTICS,
    "medium_removal": "sg_start failed: Illegal request",
    "xcopy": COPIES,
    "sanitize": "verified: nothing is left",
    "format": "verified: nothing is left",
}
