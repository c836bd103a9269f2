"""Convert: `python -m speechdistill.convert SOURCE OUT_DIR [config=FILE.yaml]`; a published checkpoint as a student."""

import sys
from pathlib import Path
from typing import NamedTuple

from speechdistill import cli
from speechdistill.errors import UserError

COMMAND = cli.Command(
    verb="convert",
    usage="SOURCE OUT_DIR [config=FILE.yaml]",
    paths=(
        (
            "SOURCE",
            "a file, a folder, a hub id, OWNER/NAME/FILE on the Hugging Face hub, or torchaudio:NAME; the format is "
            "detected from the contents: DistilHuBERT (s3prl), FitHuBERT, FitW2V2, LightHuBERT, DPHuBERT, DPWavLM, "
            "MaskHuBERT, ARMHuBERT, ARMwavLM, STaRHuBERT; HuBERT, wav2vec 2.0 and WavLM of transformers, fairseq, "
            "s3prl and torchaudio",
        ),
        (
            "OUT_DIR",
            "a new folder: a student; of a LightHuBERT supernet student/ (the published subnet) and supernet/",
        ),
    ),
    keys=(
        cli.Key(
            "config",
            "yaml file of a thin student (FitHuBERT to STaRHuBERT); needed only where the checkpoint does not hold "
            "its own options, with which it has to agree. One beside the checkpoint is found",
        ),
    ),
    examples=(
        "pyf98/DPHuBERT/DPHuBERT-sp0.75.pth students/dphubert",
        "downloads/fithubert.ckpt students/fithubert config=downloads/fithubert.yaml",
    ),
    note="Nothing in a file is executed.",
)


class Settings(NamedTuple):
    """The words of the command."""

    source: str
    out_dir: Path
    config: str | None


def main(words: list[str]) -> None:
    """Convert and say what was made.

    Raises:
        UserError: what a person can put right.
    """
    settings = read_settings(words)
    from speechdistill.checkpoints.official.convert import check_free, convert, write
    from speechdistill.models.student import StudentModel

    check_free(settings.out_dir)
    converted = convert(settings.source, settings.config)
    folders = write(converted, settings.out_dir)
    student, about = converted.student, converted.about
    bare = student if isinstance(student, StudentModel) else student.student
    num_params, with_heads = (sum(weight.numel() for weight in model.parameters()) for model in (bare, student))
    sizes = f"{student.config.num_hidden_layers} layers of {student.config.hidden_size}"
    print(f"{about['kind']}, sha256 {about['sha256'][:12]}: {sizes}, {num_params:,} parameters")
    print(f"heads     {with_heads - num_params:,} parameters")
    print(f"left out  {', '.join(about['left_out']) or 'nothing'}")
    for note in about["notes"]:
        print(f"note      {note}")
    print(f"written   {', '.join(map(str, folders))}")


def read_settings(words: list[str]) -> Settings:
    """Check the words.

    Raises:
        UserError: one is missing, unknown or too many.
    """
    paths, given = COMMAND.read(words)
    if len(paths) != 2:
        raise UserError(f"{len(paths)} paths are given; it takes two: {COMMAND.usage}.")
    return Settings(paths[0], Path(paths[1]).expanduser(), given["config"])


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
