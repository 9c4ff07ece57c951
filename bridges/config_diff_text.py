# SPDX-License-Identifier: GPL-2.0-or-later
"""The differences between two configurations as lines of text, for who wants to see them first.

A line has the words of scst.conf from the outermost section inwards, behind ``+`` for what is new,
``-`` for what is gone and ``~`` for what is otherwise: another value, or another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from bridges import config_diff as diff
from bridges.config import Config, TargetConfig
from bridges.config_alua import DeviceGroupConfig
from bridges.config_edit_tree import build, sections
from bridges.config_luns import GroupConfig, LunConfig
from bridges.scst_conf import Statement, unparse
from scsi_backend.t10.alua import AccessState

Words = tuple[str, ...]


def describe(before: Config, after: Config) -> tuple[str, ...]:
    """The lines of all differences, in their order; none where there are none."""
    return tuple(
        line
        for change in diff.differences(before, after)
        for line in _LINES[type(change)](change, before, after)
    )


def _line(sign: str, words: Iterable[str]) -> str:
    return " ".join((sign, *map(_written, words)))


def _written(word: str) -> str:
    """A word as scst.conf has it, in quotes if it needs them."""
    keyword, _, rest = unparse((build.line("word", word),)).rstrip("\n").partition(" ")
    assert keyword == "word"
    return rest


def _differing(old: Sequence[Words], new: Sequence[Words]) -> Iterator[str]:
    yield from (_line("-", words) for words in old if words not in new)
    yield from (_line("+", words) for words in new if words not in old)


def _other_order(prefix: Words, old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    """A line where what is new is not simply behind what was there before."""
    stayed = [name for name in old if name in new]
    if [*stayed, *(name for name in new if name not in old)] != list(new):
        words = map(_written, new)
        yield " ".join((_line("~", (*prefix, *old)), "->", *words))


def _leaves(statement: Statement, prefix: Words) -> Iterator[Words]:
    """The lines in a section, each behind its words; those words where there are none."""
    words = (*prefix, *(word.text for word in statement.words))
    if not statement.block:
        yield words
    for item in statement.block or ():
        yield from _leaves(item, words)


@dataclass(frozen=True, slots=True)
class _Place:
    """A section as both configurations have it; None where one of them has not."""

    prefix: Words
    old: Statement | None
    new: Statement | None

    def inner(self, keyword: str, name: str) -> _Place:
        """A section inside."""
        old, new = (
            None if each is None else sections(each.block or (), keyword).get(name)
            for each in (self.old, self.new)
        )
        return _Place((*self.prefix, keyword, name), old, new)

    def whole(self, *skipped: str) -> Iterator[str]:
        """All that is new or gone, leaving out some of the keywords."""
        for sign, section in (("-", self.old), ("+", self.new)):
            if section is None:
                continue
            block = tuple(item for item in section.block or () if item.keyword not in skipped)
            kept = replace(section, block=block)
            yield from (_line(sign, words) for words in _leaves(kept, self.prefix[:-2]))

    def attribute(self, name: str, model: type[BaseModel]) -> Iterator[str]:
        """What is different about an attribute."""
        old, new = (
            [
                words[len(self.prefix) :]
                for item in (each.block if each is not None else None) or ()
                if item.keyword == name
                for words in _leaves(item, self.prefix)
            ]
            for each in (self.old, self.new)
        )
        default = model.model_fields[name].get_default(call_default_factory=True)
        if isinstance(default, tuple):
            yield from _differing(
                [(*self.prefix, *words) for words in old], [(*self.prefix, *words) for words in new]
            )
        else:
            values = [words[0][1] if words else _default(default) for words in (old, new)]
            yield from self.value(name, *values)

    def value(self, name: str, old: str | None, new: str | None) -> Iterator[str]:
        """A value that is new, gone or another."""
        if old is not None and new is not None:
            yield f"{_line('~', (*self.prefix, name, old))} -> {_written(new)}"
        elif old is not None:
            yield _line("-", (*self.prefix, name, old))
        elif new is not None:
            yield _line("+", (*self.prefix, name, new))


def _default(value: Any) -> str | None:
    """A default as a file would have it; None is what no file can have."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, AccessState):
        return value.name.lower()
    return None if value is None else str(value)


def _place(before: Config, after: Config, keyword: str, name: str) -> _Place:
    old, new = (sections(each.statements, keyword).get(name) for each in (before, after))
    return _Place((keyword, name), old, new)


def _handlers(config: Config) -> dict[str, str]:
    return {device.name: device.handler for device in config.devices}


def _device(
    change: diff.DeviceAdded | diff.DeviceRemoved, before: Config, after: Config
) -> Iterator[str]:
    # One that has another handler is in both.
    is_gone = isinstance(change, diff.DeviceRemoved)
    handler = _handlers(before if is_gone else after)[change.name]
    place = _place(before, after, "HANDLER", handler).inner("DEVICE", change.name)
    return place.whole()


def _device_attributes(change: diff.DeviceChanged, before: Config, after: Config) -> Iterator[str]:
    device = next(device for device in after.devices if device.name == change.name)
    place = _place(before, after, "HANDLER", device.handler).inner("DEVICE", change.name)
    for name in change.attributes:
        yield from place.attribute(name, type(device.attributes))


def _driver(
    change: diff.DriverAdded | diff.DriverRemoved, before: Config, after: Config
) -> Iterator[str]:
    return _place(before, after, "TARGET_DRIVER", change.name).whole("TARGET")


def _driver_attributes(change: diff.DriverChanged, before: Config, after: Config) -> Iterator[str]:
    place = _place(before, after, "TARGET_DRIVER", change.name)
    for name in change.attributes:
        yield from place.attribute(name, type(after.drivers[change.name].attributes))


def _target_place(driver: str, name: str, before: Config, after: Config) -> _Place:
    return _place(before, after, "TARGET_DRIVER", driver).inner("TARGET", name)


def _target(
    change: diff.TargetAdded | diff.TargetRemoved, before: Config, after: Config
) -> Iterator[str]:
    return _target_place(change.driver, change.name, before, after).whole()


def _target_attributes(change: diff.TargetChanged, before: Config, after: Config) -> Iterator[str]:
    place, key = (
        _target_place(change.driver, change.name, before, after),
        (change.driver, change.name),
    )
    model = type(diff.targets_of(after)[key].attributes)
    for name in change.attributes:
        if name == "rel_tgt_id":
            ports = (str(each.relative_target_ports()[key]) for each in (before, after))
            yield from place.value(name, *ports)
        else:
            yield from place.attribute(name, model)


def _enabled(change: diff.EnabledChanged, before: Config, after: Config) -> Iterator[str]:
    place = _target_place(change.driver, change.name, before, after)
    return place.value("enabled", str(int(not change.enabled)), str(int(change.enabled)))


def _access(change: diff.AccessChanged, before: Config, after: Config) -> Iterator[str]:
    prefix = ("TARGET_DRIVER", change.driver, "TARGET", change.name)
    old, new = (diff.targets_of(each)[change.driver, change.name] for each in (before, after))
    yield from _differing(_luns(old.luns, prefix), _luns(new.luns, prefix))
    yield from _groups(old, new, prefix)


def _groups(old: TargetConfig, new: TargetConfig, prefix: Words) -> Iterator[str]:
    before, after = ({group.name: group for group in each.groups} for each in (old, new))
    for name, group in before.items():
        if name not in after:
            yield from _differing(_group(group, prefix), ())
    for name, group in after.items():
        if name not in before:
            yield from _differing((), _group(group, prefix))
            continue
        other, words = before[name], (*prefix, "GROUP", name)
        yield from _differing(_contents(other, words), _contents(group, words))
        yield from _other_order((*words, "INITIATOR"), other.initiators, group.initiators)
    yield from _other_order((*prefix, "GROUP"), list(before), list(after))


def _group(group: GroupConfig, prefix: Words) -> Sequence[Words]:
    words = (*prefix, "GROUP", group.name)
    return _contents(group, words) or [words]


def _contents(group: GroupConfig, prefix: Words) -> Sequence[Words]:
    patterns = ((*prefix, "INITIATOR", pattern) for pattern in group.initiators)
    return [*_luns(group.luns, prefix), *patterns]


def _luns(luns: Iterable[LunConfig], prefix: Words) -> Sequence[Words]:
    lines = []
    for _, lun in sorted(diff.lun_map(luns).items()):
        terms = ("read_only", "1") if lun.is_read_only else ()
        lines.append((*prefix, "LUN", str(lun.number), lun.device, *terms))
    return lines


def _device_group(
    change: diff.DeviceGroupAdded | diff.DeviceGroupRemoved, before: Config, after: Config
) -> Iterator[str]:
    return _place(before, after, "DEVICE_GROUP", change.name).whole()


def _members(change: diff.DeviceGroupChanged, before: Config, after: Config) -> Iterator[str]:
    old, new = (_device_groups(each)[change.name] for each in (before, after))
    yield from _differing(list(_parts(old)), list(_parts(new)))


def _device_groups(config: Config) -> dict[str, DeviceGroupConfig]:
    return {group.name: group for group in config.device_groups}


def _parts(group: DeviceGroupConfig) -> Iterator[Words]:
    prefix = ("DEVICE_GROUP", group.name)
    yield from ((*prefix, "DEVICE", name) for name in group.devices)
    for part in group.target_groups:
        words = (*prefix, "TARGET_GROUP", part.name)
        yield (*words, "group_id", str(part.attributes.group_id))
        for target in part.targets:
            number = target.rel_tgt_id
            given = () if number is None else ("rel_tgt_id", str(number))
            yield (*words, "TARGET", target.name, *given)


def _states(change: diff.TargetGroupChanged, before: Config, after: Config) -> Iterator[str]:
    place = _place(before, after, "DEVICE_GROUP", change.device_group)
    part = diff.target_groups_of(_device_groups(after)[change.device_group])[change.name]
    for name in change.attributes:
        yield from place.inner("TARGET_GROUP", change.name).attribute(name, type(part.attributes))


_LINES: Mapping[type[diff.Change], Callable[[Any, Config, Config], Iterator[str]]] = (
    MappingProxyType(
        {
            diff.DeviceAdded: _device,
            diff.DeviceRemoved: _device,
            diff.DeviceChanged: _device_attributes,
            diff.DriverAdded: _driver,
            diff.DriverRemoved: _driver,
            diff.DriverChanged: _driver_attributes,
            diff.TargetAdded: _target,
            diff.TargetRemoved: _target,
            diff.TargetChanged: _target_attributes,
            diff.EnabledChanged: _enabled,
            diff.AccessChanged: _access,
            diff.DeviceGroupAdded: _device_group,
            diff.DeviceGroupRemoved: _device_group,
            diff.DeviceGroupChanged: _members,
            diff.TargetGroupChanged: _states,
        }
    )
)
