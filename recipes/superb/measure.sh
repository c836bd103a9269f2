#!/usr/bin/env bash
# The tables of RESULTS.md: all ten tasks in miniature, and three tasks on real recordings; four rows each.
#   recipes/superb/measure.sh OUT_DIR [SPEECH_DIR]
# SPEECH_DIR holds digits.csv (path, digit, speaker, split), wakewords.csv (path, keyword, split) and LibriSpeech/, a tree
# in LibriSpeech's layout (or TREE=DIR names it). What is there already is not done again.
set -euo pipefail
out=${1:?usage: measure.sh OUT_DIR [SPEECH_DIR]}
speech=${2:-}
tree=${TREE:-$speech/LibriSpeech}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
[ -e "$out/student/summary.json" ] || python -m speechdistill.train recipe=distilhubert "out_dir=$out/student"

superb() { # OUT_DIR KEY=VALUE ...
    if [ -d "$1" ]; then
        python -m speechdistill.superb "resume=$1"
    else
        python -m speechdistill.superb "out_dir=$1" "${@:2}"
    fi
}

# Log-mel features, the student's shape with random weights, the distilled student, its teacher.
rows() { # OUT_DIR KEY=VALUE ...
    superb "$1/fbank" upstream=fbank "${@:2}"
    superb "$1/untrained" "upstream=$out/student" untrained=true "${@:2}"
    superb "$1/student" "upstream=$out/student" "${@:2}"
    superb "$1/teacher" upstream=mini "${@:2}"
}

rows "$out/demo" tasks=all data=demo features.cache=true
python -m speechdistill.superb report "$out/demo" "out=$out/demo"

if [ -n "$speech" ]; then
    python "$here/real_speech.py" "$speech" "$tree" "$out/tables"
    lists() { echo "data=manifest data.train=$out/tables/$1/train.csv data.valid=$out/tables/$1/valid.csv data.test=$out/tables/$1/test.csv"; }
    # The demo's sizes of heads, steps and learning rate.
    often='task.validate_every_steps=100 task.save_every_steps=100 task.log_every_steps=20 data.num_workers=0'
    rows "$out/real_ks" task=ks $(lists ks) $often steps=400 lr=3e-3 features.cache=true
    rows "$out/real_sid" task=sid $(lists sid) $often steps=400 lr=3e-3 task.accumulate=2 features.cache=true
    small='task.head.model_conf={proj_size:128,hidden_size:[128],dropout:[0.2],layer_norm:[false],proj:[false],sample_rate:[1]}'
    rows "$out/real_asr" task=asr $(lists asr) $often steps=600 lr=3e-3 "$small" \
        task.batches.train.batch_size=16 features.cache=true
    python -m speechdistill.superb report "$out"/real_* "out=$out/real"
fi
