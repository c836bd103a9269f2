#!/usr/bin/env bash
# The paper's run: DistilHuBERT of HuBERT Base from LibriSpeech 960 h.
#   recipes/distilhubert/run.sh LIBRISPEECH_ROOT [OUT_DIR] [KEY=VALUE ...]
# LIBRISPEECH_ROOT holds train-clean-100, train-clean-360, train-other-500 and dev-clean (https://www.openslr.org/12);
# what is missing is fetched into it. dry_run=true says what the run would take, and stops.
# Started again with the same OUT_DIR, it goes on where it stopped.
set -euo pipefail
root=${1:?usage: run.sh LIBRISPEECH_ROOT [OUT_DIR] [KEY=VALUE ...]}
out_dir=${2:-runs/distilhubert/librispeech-960}
shift $(($# < 2 ? $# : 2))

if [ -e "$out_dir/checkpoints/last.ckpt" ] || [ -e "$out_dir/checkpoints/previous.ckpt" ]; then
    exec python -m speechdistill.train "resume=$out_dir" "$@"
fi
exec python -m speechdistill.train \
    recipe=distilhubert size=paper \
    teacher=hubert_base `# facebook/hubert-base-ls960; pin with teacher.name=facebook/hubert-base-ls960@COMMIT` \
    data=librispeech "data.root=$root" data.download=true \
    trainer.max_steps=200000 `# optimizer steps` \
    trainer.accumulate=1 `# micro-batches of 24 utterances for one step; the paper uses one GPU` \
    trainer.devices=1 \
    trainer.checkpoint_every_steps=1000 \
    trainer.validate_every_steps=5000 \
    "out_dir=$out_dir" "$@"
