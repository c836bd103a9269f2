#!/usr/bin/env bash
# STaRHuBERT of HuBERT Base, or STaRWavLM of WavLM Base (TEACHER=wavlm_base), from LibriSpeech 960 h.
#   recipes/starhubert/run.sh LIBRISPEECH_ROOT [OUT_DIR] [KEY=VALUE ...]
# LIBRISPEECH_ROOT holds train-clean-100, train-clean-360, train-other-500 and dev-clean (https://www.openslr.org/12);
# what is missing is fetched into it. dry_run=true says what the run would take, and stops.
# Started again with the same OUT_DIR, it goes on where it stopped.
set -euo pipefail
root=${1:?usage: run.sh LIBRISPEECH_ROOT [OUT_DIR] [KEY=VALUE ...]}
teacher=${TEACHER:-hubert_base}
out_dir=${2:-runs/starhubert/$teacher-librispeech-960}
shift $(($# < 2 ? $# : 2))

if [ -e "$out_dir/checkpoints/last.ckpt" ] || [ -e "$out_dir/checkpoints/previous.ckpt" ]; then
    exec python -m speechdistill.train "resume=$out_dir" "$@"
fi
exec python -m speechdistill.train \
    recipe=starhubert size=paper \
    "teacher=$teacher" `# pin a revision with teacher.name=ID@COMMIT` \
    data=librispeech "data.root=$root" data.download=true \
    trainer.max_steps=1171825 `# optimizer steps: 100 epochs` \
    trainer.accumulate=1 `# micro-batches of 24 utterances for one step; the paper does not say` \
    trainer.devices=1 \
    trainer.checkpoint_every_steps=1000 \
    trainer.validate_every_steps=10000 \
    "out_dir=$out_dir" "$@"
