"""wordcount finds what tr, sort and uniq find, on text meant to break it and on text of this machine."""

import itertools
import os
import pathlib
import random
import subprocess

import cli

TEXT_FOLDERS = ("/usr/share/common-licenses", "/usr/include", "/usr/share/doc", "/usr/lib/gcc",
                "/usr/share/perl", "/usr/lib/python3")
PACKED = (".gz", ".xz", ".bz2", ".zst", ".zip", ".png", ".jpg", ".pdf", ".so", ".a", ".o", ".pyc")
QUICK_BYTES = 20_000_000
LARGE_BYTES = 100_000_000
SHIFT_BYTES = 7919


def count_words(contents, top=0, min_length=0, ignore_case=False):
    """The rows `regroup results` is to print, by tr, sort and uniq. Words do not cross files."""
    steps = ["LC_ALL=C tr -s '[:space:]' '\\n'", "LC_ALL=C sort -S 256M", "LC_ALL=C uniq -c"]
    if ignore_case:
        steps.insert(0, "LC_ALL=C tr A-Z a-z")
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", " | ".join(steps)],
        input=b"\n".join(contents), stdout=subprocess.PIPE, check=True)
    rows = []
    for line in ended.stdout.split(b"\n"):
        count, _, word = line.lstrip(b" ").partition(b" ")
        if word and len(word) >= min_length:
            rows.append((-int(count), word))
    rows.sort()
    kept = rows[:top] if top else rows
    text = b"".join(b"%d\t%s\n" % (-count, word) for count, word in kept)
    return text, -sum(count for count, _ in rows), len(rows)


def machine_text():
    """Paths of text files of this machine, always in the same order."""
    for folder in TEXT_FOLDERS:
        for parent, folders, names in os.walk(folder):
            folders.sort()
            for name in sorted(names):
                path = pathlib.Path(parent, name)
                readable = path.is_file() and os.access(path, os.R_OK) and path.stat().st_size > 0
                if readable and not name.endswith(PACKED) and "\n" not in str(path):
                    yield path


class WordCountTest(cli.CliTest):
    def check(self, files, *words, ranks=4, options=None, oracle=None):
        """The job over the files, with the options, against the other tools."""
        options = options or {}
        flags = []
        for name, value in options.items():
            flags += [f"--{name.replace('_', '-')}"] + ([] if value is True else [value])
        directory = self.new_dir()
        summary = self.summary("wordcount", *files, *flags, *words, ranks=ranks, dir=directory)
        rows, total, distinct = oracle or count_words(
            [(self.folder / file).read_bytes() for file in files], **options)
        self.assertTrue(self.results(directory) == rows, f"other rows than tr, sort and uniq: {files}")
        self.assertEqual(summary["result"]["words"], total)
        self.assertEqual(summary["result"]["distinct_words"], distinct)
        return summary


class Generated(WordCountTest):
    def test_nasty_text(self):
        seeded = random.Random(7)
        letters = "aé漢😀ßΩ"
        utf8 = " ".join("".join(seeded.choices(letters, k=seeded.randrange(1, 9))) for _ in range(9000))
        anything = bytes(seeded.randrange(256) for _ in range(200_000))
        cases = {
            "utf8": utf8.encode(),
            "every_byte": bytes(range(256)) * 50,
            "random_bytes": anything,
            "nul_bytes": b"a\0b a\0b a \0 \0\0 a\0c\n" * 1000,
            "long_words": b"x" * 3_000_000 + b" " + b"y" * 1_000_001 + b"\n" + b"x" * 3_000_000,
            "one_word_no_newline": b"word",
            "no_final_newline": b"one two\nthree two",
            "only_white_space": b" \t\n\v\f\r" * 10_000,
            "empty": b"",
            "one_newline": b"\n",
            "crlf": b"one two\r\ntwo three\r\n" * 5000,
            "no_break_spaces": "one\u00a0two\u2003three\u0085four one\u00a0two ".encode() * 100,
            "not_utf8": b"\xff\xfe \xc3( \x80 \xff\xfe\n" * 300,
            "backslashes_quotes": b"\\n \\ \"a\" 'b' , a,b ;\n" * 100,
        }
        for name, contents in cases.items():
            self.write(name, contents)
            with self.subTest(name):
                self.check([name], "--shard-bytes", 4099)
        with self.subTest("all of them at once"):
            self.check(sorted(cases))
        with self.subTest("the same file twice"):
            self.check(["utf8", "utf8"])

    def test_a_word_cut_at_every_place(self):
        self.write("text", b"alpha  beta\n\ngamma alphabet a bb\n" * 20)
        self.write("tail", b"delta")
        for shard_bytes in (1, 2, 3, 5, 7, 640):
            with self.subTest(shard_bytes=shard_bytes):
                self.check(["text", "tail"], "--shard-bytes", shard_bytes)

    def test_options(self):
        seeded = random.Random(3)
        words = ["".join(seeded.choices("aAbBÄ.", k=seeded.randrange(1, 6))) for _ in range(60_000)]
        self.write("text", " ".join(words))
        for options in ({"top": 1}, {"top": 25}, {"top": 10**6}, {"min_length": 4},
                        {"min_length": 10**6}, {"ignore_case": True},
                        {"ignore_case": True, "min_length": 3, "top": 10}):
            for ranks in (None, 4):
                with self.subTest(ranks=ranks, **options):
                    self.check(["text"], options=options, ranks=ranks)

    def test_shard_sizes(self):
        self.write("text", b"".join(b"w%d " % (i * i % 4999) for i in range(30_000)))
        for shard_bytes in (64, 1 << 20, 10**18):
            with self.subTest(shard_bytes=shard_bytes):
                self.check(["text"], "--shard-bytes", shard_bytes)

    def test_many_small_files(self):
        names = [f"many/{number:04}.txt" for number in range(3000)]
        contents = [b"file %d of many%s" % (i % 97, b"" if i % 3 else b"\n") for i in range(3000)]
        for name, content in zip(names, contents):
            self.write(name, content if len(content) % 5 else b"")
        contents = [(self.folder / name).read_bytes() for name in names]
        self.write("list", "\n".join(names[10:]) + "\n")
        summary = self.check(names[:10], "--files-from", "list", oracle=count_words(contents))
        self.assertEqual(summary["result"]["files"], 3000)
        self.assertEqual(summary["result"]["bytes"], sum(map(len, contents)))

    def test_names_of_files(self):
        names = ["with space", "-dash", "é漢", "'quote'", 'a"b', "semi;colon$HOME", "*"]
        for name in names:
            self.write(name, name)
        self.write("list", "\n".join(names))
        self.check([f"./{name}" for name in names])
        self.check([], "--files-from", "list", oracle=count_words([name.encode() for name in names]))


class MachineText(WordCountTest):
    def test_text_of_this_machine(self):
        paths, total = [], 0
        for path in machine_text():
            size = path.stat().st_size
            if size > QUICK_BYTES // 4:
                continue
            if total + size > QUICK_BYTES:
                break
            paths.append(path)
            total += size
        if total < QUICK_BYTES // 10:
            self.skipTest(f"only {total} bytes of text below {', '.join(TEXT_FOLDERS)}")
        self.write("list", "".join(f"{path}\n" for path in paths))
        oracle = count_words([path.read_bytes() for path in paths])
        for ranks in (None, 4):
            summary = self.check([], "--files-from", "list", ranks=ranks, oracle=oracle)
            self.assertEqual(summary["result"]["bytes"], total)


class LargeText(WordCountTest):
    def test_100_megabytes(self):
        text = bytearray()
        for path in machine_text():
            text += path.read_bytes()
            if len(text) >= LARGE_BYTES:
                break
        if not text:
            self.skipTest(f"no text below {', '.join(TEXT_FOLDERS)}")
        # A machine with less repeats it, each time from a little further on.
        for shift in itertools.count(SHIFT_BYTES, SHIFT_BYTES):
            if len(text) >= LARGE_BYTES:
                break
            text += text[shift % len(text):]
        part = len(text) // 3
        pieces = [bytes(text[:part]), bytes(text[part:2 * part]), bytes(text[2 * part:])]
        for name, piece in zip("abc", pieces):
            self.write(name, piece)
        self.check(["a", "b", "c"], oracle=count_words(pieces))


if __name__ == "__main__":
    cli.main()
