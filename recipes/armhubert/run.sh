#!/usr/bin/env bash
# The paper's runs: ARMHuBERT of HuBERT Base from LibriSpeech 960 h, or ARMHuBERT-S and ARMwavLM-S.
#   recipes/armhubert/run.sh LIBRISPEECH_ROOT [OUT_DIR] [KEY=VALUE ...]
#   PRESET=armhubert_s TEACHER=wavlm_base recipes/armhubert/run.sh LIBRISPEECH_ROOT [OUT_DIR] [KEY=VALUE ...]
# LIBRISPEECH_ROOT holds train-clean-100, train-clean-360, train-other-500 and dev-clean (https://www.openslr.org/12);
# what is missing is fetched into it. dry_run=true says what the run would take, and stops.
# Started again with the same OUT_DIR, it goes on where it stopped.
set -euo pipefail
root=${1:?usage: run.sh LIBRISPEECH_ROOT [OUT_DIR] [KEY=VALUE ...]}
teacher=${TEACHER:-hubert_base}
preset=${PRESET:-armhubert}
case $preset in
armhubert) steps=390600 ;;
armhubert_s) steps=195300 ;;
*) echo "PRESET=$preset: armhubert or armhubert_s" >&2 && exit 2 ;;
esac
out_dir=${2:-runs/$preset/$teacher-librispeech-960}
shift $(($# < 2 ? $# : 2))

if [ -e "$out_dir/checkpoints/last.ckpt" ] || [ -e "$out_dir/checkpoints/previous.ckpt" ]; then
    exec python -m speechdistill.train "resume=$out_dir" "$@"
fi
exec python -m speechdistill.train \
    recipe=armhubert "architecture=$preset" size=paper \
    "teacher=$teacher" `# pin a revision with teacher.name=ID@COMMIT` \
    data=librispeech "data.root=$root" data.download=true \
    trainer.max_steps=$steps `# optimizer steps: 200 epochs, 100 of -S` \
    trainer.accumulate=4 `# micro-batches of 36 utterances for one step; the release: 18 on each of 2 GPUs, 4 times` \
    trainer.devices=1 \
    trainer.checkpoint_every_steps=1000 \
    trainer.validate_every_steps=10000 \
    "out_dir=$out_dir" "$@"
