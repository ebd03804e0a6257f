"""The index of shards, ``striate.json``: what is in them, and where it can be read without reading the rest."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, final

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

from striate.core.errors import DataError
from striate.core.spec import InputSpec
from striate.data.splits import SplitName

INDEX_FILE = "striate.json"
MOST_BLOCK_BYTES = 1 << 29  # it is in memory whole

# A shard lies directly beside its index: no name leads anywhere else.
ShardName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+=@ -]*\.tar$", max_length=255)]


@final
class Block(NamedTuple):
    """Consecutive samples of a shard, which are read together.

    Args:
        offset, size: in bytes, from the first header on.
        samples: how many.
        crc32: of these bytes; None where they have not been read.
    """

    offset: NonNegativeInt
    size: Annotated[PositiveInt, Field(le=MOST_BLOCK_BYTES)]
    samples: PositiveInt
    crc32: NonNegativeInt | None = None


@final
class Shard(BaseModel):
    """A tar file of samples.

    Args:
        name: of the file, beside the index.
        split: what its samples are for.
        size: in bytes.
        sha256: of the file; None where it has not been read.
        pictures_per_class: K numbers.
        blocks: one after the other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ShardName
    split: SplitName
    size: PositiveInt
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    pictures_per_class: tuple[NonNegativeInt, ...]
    blocks: Annotated[tuple[Block, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _blocks_follow_each_other(self) -> Shard:
        end = 0
        for block in self.blocks:
            if block.offset < end or block.offset + block.size > self.size:
                raise ValueError(f"blocks of {self.name} must follow each other and end within its {self.size:,} bytes")
            end = block.offset + block.size
        if max(self.pictures_per_class, default=0) > self.samples:
            raise ValueError(f"pictures_per_class of {self.name} must be at most its {self.samples:,} pictures")
        return self

    @property
    def samples(self) -> int:
        """How many pictures it holds."""
        return sum(block.samples for block in self.blocks)


@final
class ShardIndex(BaseModel):
    """What is in a set of shards.

    Args:
        name: of the data set.
        class_names: K names, in the order of the numbers in the shards.
        labels: ``multi`` where a picture may have several classes.
        input: the size, channels and policy to read the pictures with unless another is asked for, with mean and std
            as measured on train with these; None where nothing was decoded.
        shards: in the order in which their pictures are numbered.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    striate_index: Literal[1] = 1
    name: str
    class_names: Annotated[tuple[str, ...], Field(min_length=1)]
    labels: Literal["single", "multi"] = "single"
    input: InputSpec | None = None
    shards: Annotated[tuple[Shard, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _shards_agree(self) -> ShardIndex:
        if len({shard.name for shard in self.shards}) < len(self.shards):
            raise ValueError("shards must have names that differ")
        wrong = [one.name for one in self.shards if len(one.pictures_per_class) != len(self.class_names)]
        if wrong:
            raise ValueError(f"pictures_per_class of {wrong[0]} must be {len(self.class_names)} numbers")
        return self

    def of_split(self, split: SplitName) -> tuple[Shard, ...]:
        """Return the shards of a split."""
        return tuple(shard for shard in self.shards if shard.split == split)

    def to_json(self) -> str:
        """Return the text of the index file: a line per shard."""
        head = self.model_dump_json(exclude={"shards"}).removesuffix("}")
        shards = ",\n".join(shard.model_dump_json() for shard in self.shards)
        return f'{head},"shards":[\n{shards}\n]}}\n'


def parse_index(text: str | bytes, where: str) -> ShardIndex:
    """Return the index that a file holds.

    Raises:
        DataError: it is not one.
    """
    try:
        return ShardIndex.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        problem = first["msg"].removeprefix("Value error, ")
        raise DataError(
            f"{where} must be an index of shards as `striate datasets pack` writes it: {field} {problem}.".replace(
                ":  ", ": "
            )
        ) from error
