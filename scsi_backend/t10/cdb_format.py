# SPDX-License-Identifier: GPL-2.0-or-later
"""FORMAT UNIT and SANITIZE: where the fields of their CDBs and parameter lists lie."""

from __future__ import annotations

from typing import Final

from scsi_backend.t10.cdb import Field

# FORMAT UNIT (SBC-4 table 49).
FMTPINFO: Final = Field(1, 7, 2)
LONGLIST: Final = Field(1, 5, 1)
FMTDATA: Final = Field(1, 4, 1)
CMPLST: Final = Field(1, 3, 1)
DEFECT_LIST_FORMAT: Final = Field(1, 2, 3)
FFMT: Final = Field(4, 1, 2)

# The parameter list header of FORMAT UNIT: bytes 0 and 1 of both forms.
PROTECTION_FIELDS_USAGE: Final = Field(0, 2, 3)
FOV: Final = Field(1, 7, 1)
DPRY: Final = Field(1, 6, 1)
DCRT: Final = Field(1, 5, 1)
STPF: Final = Field(1, 4, 1)
IP: Final = Field(1, 3, 1)
FORMAT_IMMED: Final = Field(1, 1, 1)
# The short form.
SHORT_HEADER_BYTES: Final = 4
DEFECT_LIST_LENGTH: Final = Field(2, 7, 16)
# The long form.
LONG_HEADER_BYTES: Final = 8
P_I_INFORMATION: Final = Field(3, 7, 4)
PROTECTION_INTERVAL_EXPONENT: Final = Field(3, 3, 4)
LONG_DEFECT_LIST_LENGTH: Final = Field(4, 7, 32)

# The initialization pattern descriptor, which follows the header.
INITIALIZATION_PATTERN_DESCRIPTOR_BYTES: Final = 4
IP_MODIFIER: Final = Field(0, 7, 2)
SECURITY_INITIALIZE: Final = Field(0, 5, 1)
INITIALIZATION_PATTERN_TYPE: Final = Field(1, 7, 8)
INITIALIZATION_PATTERN_LENGTH: Final = Field(2, 7, 16)
DEFAULT_PATTERN: Final = 0x00
REPEAT_PATTERN: Final = 0x01

# SANITIZE (SBC-4 table 107).
SANITIZE_IMMED: Final = Field(1, 7, 1)
ZNR: Final = Field(1, 6, 1)
AUSE: Final = Field(1, 5, 1)
SANITIZE_RESERVED: Final = Field(2, 7, 40)
SANITIZE_PARAMETER_LIST_LENGTH: Final = Field(7, 7, 16)

# The parameter list of SANITIZE OVERWRITE: four bytes and the pattern.
OVERWRITE_HEADER_BYTES: Final = 4
INVERT: Final = Field(0, 7, 1)
TEST: Final = Field(0, 6, 2)
OVERWRITE_COUNT: Final = Field(0, 4, 5)
OVERWRITE_PATTERN_LENGTH: Final = Field(2, 7, 16)
