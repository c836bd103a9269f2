"""Lists as other tools write them: what their columns say is honoured or refused, in every format."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechdistill.audio.lists.columns import columns_of
from speechdistill.audio.manifest import manifest_corpus
from speechdistill.audio.measuring import Limits
from speechdistill.audio.transcripts import transcripts
from speechdistill.errors import UserError

QUIET = Limits(progress=False)
SECONDS = 12


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def corpus(tmp_path) -> Path:
    """a.wav, clips/b.wav and two names that need care, each of other noise."""
    (tmp_path / "clips").mkdir()
    for number, name in enumerate(("a.wav", "clips/b.wav", "two words.wav", "ü.wav")):
        noise = np.random.default_rng(number).uniform(-0.1, 0.1, SECONDS * 16_000)
        soundfile.write(tmp_path / name, noise, 16_000)
    return tmp_path


def read(folder: Path, content: str | bytes, name: str = "list", **more):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return manifest_corpus(folder / name, limits=QUIET, **more)


def spans(table) -> list[tuple[str, float, float]]:
    return [
        (str(table.paths[row]), table.first_sample(row) / 16_000, int(table.num_samples[row]) / 16_000)
        for row in range(len(table))
    ]


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ("path,start,duration", "a.wav,5,2"),
        ("audio_filepath,offset,duration", "a.wav,5.0,2.0"),
        ("path,start,end", "a.wav,5,7"),
        ("wav_path,start_time,end_time", "a.wav,5,7"),
        ("file_name,begin,end", "a.wav,5,7"),
        ("audio,begin_time,stop", "a.wav,5,7"),
        (" Path , Start , Duration ", "a.wav,5,2"),
        ("filename,onset,offset,event", "a.wav,5,7,bark"),
        ("file,xmin,xmax", "a.wav,5,7"),
        ("wav,start_ms,end_ms", "a.wav,5000,7000"),
        ("audioPath,startTime,endTime", "a.wav,5,7"),
        ("wav_filename,Begin Time (s),End Time (s)", "a.wav,5,7"),
        ("path,seg_start,dur", "a.wav,5,2"),
        ("path,start_sec,length", "a.wav,5,2"),
        ("path,offset,start,duration,duration_ms,end", "a.wav,5,5.0,2,2000,7.01"),
        ("path,audio_filepath,start,end", "a.wav,./somewhere/a.wav,5,7"),
    ],
)
def test_columns_of_other_names_say_the_same(columns, values, corpus):
    (span,) = spans(read(corpus, f"{columns}\n{values}\n"))
    assert span == ("a.wav", 5, pytest.approx(2, abs=0.011))


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("name", ["LIST.CSV", "x.tsv", "x.txt", "x"])
def test_any_separator_under_any_name(separator, name, corpus):
    table = read(corpus, f"path{separator}Text\na.wav{separator}ONE TWO\n", name)
    assert spans(table) == [("a.wav", 0, SECONDS)]
    assert table.labels == {"Text": ["ONE TWO"]}
    assert transcripts(table) == ["ONE TWO"]


def test_an_end_alone_is_from_the_beginning_and_nothing_is_the_whole(corpus):
    lines = [{"path": "a.wav", "end": 3}, {"path": "a.wav", "start": 2, "end": None}, {"path": "a.wav"}]
    table = read(corpus, "\n".join(map(json.dumps, lines)))
    assert spans(table) == [("a.wav", 0, 3), ("a.wav", 0, SECONDS), ("a.wav", 2, SECONDS - 2)]


@pytest.mark.parametrize(
    "column",
    ["length", "num_samples", "n_frames", "frames", "Length (samples)", "segment", "clip", "weekend", "text_end"],
)
def test_what_says_nothing_of_a_place_is_a_label(column, corpus):
    table = read(corpus, f"path,{column}\na.wav,5\n")
    assert spans(table) == [("a.wav", 0, SECONDS)]
    assert table.labels == {column: ["5"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,audio_filepath\na.wav,clips/b.wav\n", "line 2: path=a.wav and audio_filepath=clips/b.wav mean the same"),
        ("path,start,offset\na.wav,1,2\n", "line 2: start=1.0 and offset=2.0 mean the same and differ. Take one"),
        ("path,start,end,duration\na.wav,1,2,5\n", "start=1, end=2, duration=5 do not fit together"),
        ("path,start,end\na.wav,3,2\n", "start=3, end=2 do not fit together"),
        (
            "path,frame_offset,num_frames\na.wav,80000,32000\n",
            "frame_offset counts samples or frames. Say it in seconds",
        ),
        ("path,start_sample\na.wav,80000\n", "start_sample counts samples or frames"),
        ("path,end_time\na.wav,noon\n", "end_time=noon; give seconds from 0 to 1e+09, or another name"),
        ("path,start_ms\na.wav,-1\n", "start_ms=-1; give milliseconds from 0 to 1e+12"),
        ("path\nhttps://a.org/b.wav\n", "path=https://a.org/b.wav is an address. Fetch the recordings"),
        ("path\nfile://[b.wav\n", "path=file://[b.wav is an address"),
        ("path\n~nobody-here/b.wav\n", "path=~nobody-here/b.wav: ~nobody-here is no home folder"),
        ("path,path\na.wav,a.wav\n", "names column 'path' more than once"),
    ],
)
def test_what_cannot_be_honoured_is_named(content, message, corpus):
    with pytest.raises(UserError) as caught:
        read(corpus, content)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "path", ["~/clips/b.wav", "clips\\b.wav", "file://{root}/clips/b.wav", "file://localhost{root}/cl%69ps/b.wav"]
)
def test_spellings_of_a_path(path, corpus):
    table = read(corpus, json.dumps({"path": path.format(root=corpus)}))
    assert spans(table) == [("clips/b.wav", 0, SECONDS)]


def test_a_backslash_that_is_really_in_a_name_stays(corpus):
    (corpus / "a.wav").rename(corpus / "x\\a.wav")
    assert spans(read(corpus, "path\nx\\a.wav\n")) == [("x\\a.wav", 0, SECONDS)]


NEMO = [{"audio_filepath": "a.wav", "offset": 5, "duration": 2, "text": "ü"}]
FORMS = {
    "csv": "path,start,duration,text\na.wav,5,2,ü\n",
    "tsv": "path\tstart\tduration\ttext\na.wav\t5\t2\tü\n",
    "json lines": json.dumps(NEMO[0], ensure_ascii=False) + "\n",
    "array": json.dumps(NEMO, indent=2, ensure_ascii=False),
    "windows": "path;start;duration;text\r\na.wav;5;2;ü\r\n",
    "quoted": '"path"\t"start"\t"duration"\t"text"\n"a.wav"\t"5"\t"2"\t"ü"\n',
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16 after gzip", "empty lines above"])
def test_a_byte_order_mark_loses_nothing(form, encoding, corpus):
    content = FORMS[form]
    if encoding == "utf-16 after gzip":
        encoded = gzip.compress(content.encode("utf-16"), mtime=0)
    elif encoding == "empty lines above":
        encoded = f"\n\n{content}".encode()
    else:
        encoded = content.encode(encoding)
    table = read(corpus, encoded)
    assert spans(table) == [("a.wav", 5, 2)]
    assert table.labels == {"text": ["ü"]}


def test_common_voice_keeps_its_files_in_a_folder_that_its_lists_do_not_name(corpus):
    content = 'client_id\tpath\tsentence\tage\nx1\tb.wav\t"Go," she said.\t\nx2\ta.wav\tIt\'s "so\t\n'
    (corpus / "a.wav").rename(corpus / "clips" / "a.wav")
    table = read(corpus, content, "train.tsv")
    assert [span[0] for span in spans(table)] == ["clips/a.wav", "clips/b.wav"]
    assert transcripts(table) == ["It's \"so", '"Go," she said.']
    # The folder clips itself may be the root.
    assert list(read(corpus, content, "train.tsv", root=corpus / "clips").paths) == ["a.wav", "b.wav"]


def test_fairseqs_folder_stands_on_top(corpus):
    for folder in (str(corpus), "~", "clips/.."):
        table = read(corpus, f"{folder}\na.wav\t192000\ntwo words.wav\t192000\n", "train.tsv")
        assert spans(table) == [("a.wav", 0, SECONDS), ("two words.wav", 0, SECONDS)]


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_paths_alone(bom, corpus):
    table = read(corpus, f"{bom}two words.wav\r\n\r\na.wav\r\n", "list.txt")
    assert list(table.paths) == ["a.wav", "two words.wav"]


def test_kaldis_recordings_and_segments(corpus):
    scp = f"\ufeffrec1 a.wav\nrec2\t{corpus}/two words.wav\n"
    table = read(corpus, scp, "wav.scp")
    assert spans(table) == [("a.wav", 0, SECONDS), ("two words.wav", 0, SECONDS)]
    assert table.labels == {"id": ["rec1", "rec2"]}
    (corpus / "segments").write_text("u1 rec1 5.0 7.0\nu3 rec2 3 -1\nu2 rec1 9 11\n")
    (corpus / "text").write_text("u1 FIVE AND\nu2 NINE\n")
    (corpus / "utt2spk").write_text("u1 ann\nu2 ann\nu3 ben\n")
    for given in (corpus / "wav.scp", corpus):  # the folder is as good
        table = manifest_corpus(given, limits=QUIET)
        assert spans(table) == [("a.wav", 5, 2), ("a.wav", 9, 2), ("two words.wav", 3, SECONDS - 3)]
        assert table.labels["text"] == ["FIVE AND", "NINE", None]
        assert table.labels["speaker"] == ["ann", "ann", "ben"]
    (corpus / "segments").write_text("u1 rec9 5.0 7.0\n")
    with pytest.raises(UserError, match=r"segments, line 1: u1 rec9 5\.0 7\.0; a line of segments is"):
        manifest_corpus(corpus, limits=QUIET)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("u1 sox a.wav -t wav - |", r"line 1: u1 is a command \(sox a\.wav -t wav - \|\), and no command is executed"),
        ("u1 touch executed.wav |", r"and list the file"),
        ("u1 /corpora/raw.ark:1234", r"line 1: u1 lies in an archive"),
    ],
)
@pytest.mark.parametrize("name", ["wav.scp", "train.txt"])
def test_kaldis_commands_are_never_executed(line, message, name, corpus):
    with pytest.raises(UserError, match=message):
        read(corpus, f"{line}\nu2 a.wav\n", name)
    assert not (corpus / "executed.wav").exists()


@pytest.mark.parametrize("damage", [b"\xff", b"\x00" * 40])
def test_a_damaged_gzip_file_is_one_message(damage, corpus):
    whole = gzip.compress(b"".join(b"a%d.wav,5\n" % number for number in range(1000)))
    with pytest.raises(UserError, match=r"list cannot be read: .*\. Give a list: CSV"):
        read(corpus, whole[:100] + damage + whole[120:])


def test_a_line_that_no_file_can_be_called_is_one_message(corpus):
    with pytest.raises(UserError, match=r"line 2: no path; the columns are u1 9999"):
        read(corpus, f"u1 {'9' * 5000}\nb\n")


def test_hugging_faces_audio_is_a_path_where_it_has_one(corpus):
    assert spans(read(corpus, '{"audio": {"path": "a.wav", "bytes": null}}')) == [("a.wav", 0, SECONDS)]
    with pytest.raises(UserError, match="line 1: no path"):
        read(corpus, '{"audio": {"bytes": "UklGRg=="}}')


def test_a_folder_and_a_missing_list_are_named(corpus):
    with pytest.raises(UserError, match=r"clips is a folder\. .*data=folder data\.root=DIR"):
        manifest_corpus(corpus / "clips", limits=QUIET)
    with pytest.raises(UserError, match=r"data\.manifest=.*none\.csv: no such file\. Give a list: CSV"):
        manifest_corpus(corpus / "none.csv", limits=QUIET)


def test_names_are_labels_as_they_are_written():
    columns = columns_of(("Path", "Speaker ID", "START", "file_name", "Текст", "Split"))
    assert columns.paths == ("Path",)
    assert columns.labels == ("Speaker ID", "file_name", "Текст")
