#!/usr/bin/env bash
# The tables of RESULTS.md.
#   recipes/asr/measure.sh OUT_DIR [SPEECH_DIR]
#   ONLY="demo long" recipes/asr/measure.sh OUT_DIR [SPEECH_DIR]     # some of: demo tree digits long
# SPEECH_DIR holds digits.csv (path, digit, speaker), wakewords.csv (path) and LibriSpeech/, a tree in LibriSpeech's layout
# (or TREE=DIR names it). SPEAKERS="theo lucas" leaves out these alone. What is there already is not trained again.
set -euo pipefail
out=${1:?usage: measure.sh OUT_DIR [SPEECH_DIR]}
speech=${2:-}
tree=${TREE:-$speech/LibriSpeech}
only=${ONLY:-demo long ${speech:+tree digits}}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"

train() { # VERB OUT_DIR KEY=VALUE ...
    [ -e "$2/summary.json" ] || python -m "speechdistill.$1" "out_dir=$2" trainer.tensorboard=false "${@:3}"
}

# Four rows: log-mel features under a BLSTM from scratch; the student's shape with random weights, the distilled student and
# its teacher, each as `encoder` says. Of each the weights that are best on the validation set.
rows() { # OUT_DIR STUDENT KEY=VALUE ...
    local dir=$1 student=$2
    shift 2
    train finetune "$dir/fbank" task=asr_frozen student=fbank "${blstm[@]}" "$@"
    train finetune "$dir/untrained" "${encoder[@]}" "student=$student" task.random_weights=true "$@"
    train finetune "$dir/distilled" "${encoder[@]}" "student=$student" "$@"
    train finetune "$dir/teacher" "${encoder[@]}" student=mini "$@"
    python "$here/table.py" "$dir"/{fbank,untrained,distilled,teacher} | tee "$dir.md"
}
full=(optim.lr=2e-3 task.masks.time_probability=0.15 task.masks.channel_probability=0.05 trainer.max_steps=1000)
encoder=(task=asr "${full[@]}") # fine-tuned under a linear head
blstm=(trainer.max_steps=1000)

if [[ " $only " =~ " demo " || " $only " =~ " tree " || " $only " =~ " long " ]]; then
    train train "$out/distilhubert" recipe=distilhubert
fi
if [[ " $only " =~ " demo " || " $only " =~ " long " ]]; then
    SECONDS=0
    rows "$out/demo" "$out/distilhubert" trainer.validate_every_steps=250
    echo "demo: $SECONDS s" | tee "$out/demo.seconds"
fi

# The demo's distilled student once more, trained on joined utterances.
if [[ " $only " =~ " long " ]]; then
    train finetune "$out/demo_joined" task=asr "student=$out/distilhubert" "${full[@]}" trainer.validate_every_steps=250 \
        data.max_seconds=30 data.join_seconds=30
    python "$here/../../benchmarks/long_audio.py" "$out/demo/distilled" | tee "$out/long.md"
    python "$here/../../benchmarks/long_audio.py" "$out/demo_joined" | tee "$out/long_joined.md"
fi

# Of the tree: a small head, little text.
small=(size=paper task.head_size=128 data.batch_seconds=26 data.max_seconds=16 optim.lr=2e-3 'optim.phases=[0.1,0.4,0.5]'
    data.num_workers=1 task.masks.time_length=10 trainer.checkpoint_every_steps=1000)

if [[ " $only " =~ " tree " ]]; then
    train finetune "$out/tree" task=asr_frozen "student=$out/distilhubert" data=librispeech \
        "data.root=$tree" 'data.parts=[train-clean-100,dev-clean,test-clean]' \
        "${small[@]}" trainer.max_steps=1500 trainer.validate_every_steps=100
    python "$here/table.py" "$out/tree" | tee "$out/tree.md"
    python "$here/../../benchmarks/long_audio.py" "$out/tree" "$tree/test-clean" | tee "$out/tree_long.md"
fi

if [[ " $only " =~ " digits " ]]; then
    [ -e "$out/connected" ] || python "$here/connected_digits.py" "$speech" "$out/connected"
    # On from the demo's student, on real speech without the speaker who is left out.
    demo=(size=paper "student.init_from=$out/distilhubert" data.max_utterances=10 data.max_seconds=4 data.batch_seconds=24
        optim.lr=1.0e-3 trainer.max_steps=300 trainer.validate_every_steps=100 data.num_workers=1
        architecture.hidden_dropout=0 architecture.attention_dropout=0 architecture.activation_dropout=0)
    blstm=(size=paper trainer.max_steps=2000 task.head_size=128 optim.lr=2e-3 'optim.phases=[0.1,0.4,0.5]' task.masks.time_length=10)
    encoder=(task=asr_frozen "${blstm[@]}") # five minutes of labels are few: frozen, under the same BLSTM
    for left_out in ${SPEAKERS:-$(cd "$out/connected" && printf '%s\n' *.text.csv | sed 's/\..*//')}; do
        train train "$out/digits/$left_out/distilhubert" recipe=distilhubert data=manifest \
            "data.manifest=$out/connected/$left_out.audio.csv" "${demo[@]}"
        rows "$out/digits/$left_out/rows" "$out/digits/$left_out/distilhubert" data=manifest \
            "data.manifest=$out/connected/$left_out.text.csv" data.batch_seconds=26 data.max_seconds=16 \
            data.num_workers=1 trainer.checkpoint_every_steps=1000 trainer.validate_every_steps=100
    done
    for row in fbank untrained distilled teacher; do
        python "$here/table.py" "$out"/digits/*/rows/"$row" --together "$row"
    done | tee "$out/digits.md"
fi
