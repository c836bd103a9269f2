"""SUPERB (arXiv:2105.01051): `python -m speechdistill.superb task=T upstream=DIR data=demo|manifest|official ...`.

task=T upstream=U                one of pr asr ks qbe sid asv sd ic sf er; tasks=all or tasks=[ks,sid] are several
upstream=DIR                     a student's folder or its run's, "mini", a teacher (folder, hub id), or fbank (log-mel)
upstream=DIR untrained=true      the same architecture with random weights
data=demo                        made from the demo corpus, small heads, about a minute for each task
data=manifest data.train=A.csv data.valid=B.csv data.test=C.csv       one's own recordings
data=official data.root=DIR      the corpora of the leaderboard, full-size heads
lr=1e-3, lr=[1e-5,1e-4,1e-3]     learning rate; several: the best by validation is tested, all are reported
steps=N                          updates
features.cache=true|DIR          encode each recording once for all steps, tasks and learning rates
out_dir=DIR                      a fresh folder; resume=DIR goes on in that of an earlier start
report RUNS... [out=DIR]         gather superb.json files into a table, a CSV and a plot
s3prl run_downstream ...         s3prl's own command line, with students as upstreams: -u speechdistill -k DIR
s3prl main ...                   likewise: --build_upstream.name speechdistill --build_upstream.path_or_url DIR
"""

import sys

from speechdistill import cli
from speechdistill.errors import UserError

PROGRAMS = ("run_downstream", "main")


def main(words: list[str]) -> None:
    """Hand the words over to s3prl.

    Raises:
        UserError: what a person can put right.
    """
    if not words or words in (["-h"], ["--help"]):
        print(__doc__)
        return
    program, rest = read_program(words)
    from speechdistill.upstream.register import hand_over

    hand_over(program, rest)


def read_program(words: list[str]) -> tuple[str, list[str]]:
    """Split `s3prl PROGRAM ...` into the program and its own words.

    Raises:
        UserError: something else is asked for.
    """
    if words[0] != "s3prl":
        raise UserError(
            f"{words[0]}: task= and the like are not there yet; what is, is s3prl's own command line: "
            "`python -m speechdistill.superb s3prl run_downstream|main ...`."
        )
    program, *rest = words[1:] or ["(nothing)"]
    if program not in PROGRAMS:
        near = cli.did_you_mean(program, PROGRAMS)
        raise UserError(f"s3prl {program}: no such command line{near}; there are {' and '.join(PROGRAMS)}.")
    return program, rest


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
