#!/usr/bin/env bash
# Paper-sized: LightHuBERT of HuBERT Base from LibriSpeech 960 h, both stages in one run.
#   recipes/lighthubert/run.sh LIBRISPEECH_ROOT [OUT_DIR] [KEY=VALUE ...]
#   SPACE=small recipes/lighthubert/run.sh LIBRISPEECH_ROOT [OUT_DIR] [KEY=VALUE ...]
# LIBRISPEECH_ROOT holds train-clean-100, train-clean-360, train-other-500 and dev-clean (https://www.openslr.org/12);
# what is missing is fetched into it. dry_run=true says what the run would take, and stops.
# Started again with the same OUT_DIR, it goes on where it stopped, in either stage. One stage 1 serves both spaces:
#   ... lighthubert_stage_2 with student.init_from=OUT_DIR/stage_1, see README.md.
set -euo pipefail
root=${1:?usage: run.sh LIBRISPEECH_ROOT [OUT_DIR] [KEY=VALUE ...]}
space=${SPACE:-base}
out_dir=${2:-runs/lighthubert/librispeech-960-$space}
shift $(($# < 2 ? $# : 2))

if [ -e "$out_dir/checkpoints/last.ckpt" ] || [ -e "$out_dir/checkpoints/previous.ckpt" ]; then
    exec python -m speechdistill.train "resume=$out_dir" "$@"
fi
exec python -m speechdistill.train \
    recipe=lighthubert size=paper \
    teacher=hubert_base `# pin a revision with teacher.name=facebook/hubert-base-ls960@COMMIT` \
    data=librispeech "data.root=$root" data.download=true \
    "search_space=$space" `# base or small` \
    trainer.max_steps=800000 `# 400,000 of the full-size student, 400,000 of subnets` \
    trainer.accumulate=4 `# micro-batches of 300 s for one step` \
    trainer.devices=1 \
    trainer.checkpoint_every_steps=1000 \
    trainer.validate_every_steps=5000 \
    "out_dir=$out_dir" "$@"
