"""Write sox_references.npz anew: `python -m tests.parity.make_sox_references`; needs the sox program (14.4.2)."""

from pathlib import Path

import numpy as np

from tests.parity.sox_cases import CASES, make_signal, run_sox

PATH = Path(__file__).with_name("sox_references.npz")


def main() -> None:
    outputs = {}
    for case in CASES:
        samples = make_signal(case.signal, case.sample_rate)
        outputs[case.name] = run_sox(samples, case.sample_rate, case.effects, case.subtype)
    # Where every value is a step of 16 bits, two bytes hold it.
    steps = {name: output * 2**15 for name, output in outputs.items()}
    fits = {
        name: np.array_equal(step, np.round(step)) and abs(step).max(initial=0) < 2**15 for name, step in steps.items()
    }
    np.savez_compressed(
        PATH, **{name: steps[name].astype(np.int16) if fits[name] else outputs[name] for name in outputs}
    )
    print(f"{len(outputs)} outputs of sox, {PATH.stat().st_size / 1000:.0f} kB in {PATH}")


if __name__ == "__main__":
    main()
