#include "runtime/host/checkpoint_reader.hpp"

#include <cstdlib>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "runtime/host/checkpoint_manifest.hpp"
#include "runtime/host/content_hash.hpp"
#include "tests/host/checkpoints.hpp"
#include "tests/host/outside_programs.hpp"
#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using test::contents_of;
using test::number;
using test::runs;
using test::take;
using test::TestRun;
using test::write_file;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// The manifest with one text in place of another, and the hash that belongs to it.
std::string rewritten(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, text.npos) << from;
  if (at == text.npos) return text;
  text.replace(at, from.size(), to);
  text.resize(text.size() - 36);
  return text + content_hash(text) + "\"\n}\n";
}

std::string reason_of(const TestRun& run, std::uint64_t checkpoint = 2) {
  const auto opened = run.store.open(number(checkpoint));
  if (opened) return "it opens";
  EXPECT_EQ(opened.error().state, CheckpointState::kDamaged);
  EXPECT_THAT(opened.error().reason,
              AllOf(HasSubstr(run.scratch.path().string()), Not(HasSubstr("\n"))));
  return opened.error().reason;
}

// Two checkpoints with a field; the second has a linked part and a compressed one.
struct TwoCheckpoints : TestRun {
  TwoCheckpoints() {
    EXPECT_TRUE(take(store, {.checkpoint = number(1), .rows = 3000, .grid = {6, 9}}));
    EXPECT_TRUE(take(store, {.checkpoint = number(2),
                             .rows = 3000,
                             .deflate_level = 1,
                             .linked = number(1),
                             .grid = {6, 9}}));
  }
  std::filesystem::path manifest() const { return directory("000002") / "manifest.json"; }
  void rewrite(const std::string& from, const std::string& to) const {
    write_file(manifest(), rewritten(contents_of(manifest()), from, to));
  }
};

// ---- Damage that is named ----

TEST(CheckpointReader, NamesWhatIsTruncatedMissingOrForeign) {
  const TwoCheckpoints run;
  const auto part = run.directory("000002") / "part-0001.h5";
  const std::string bytes = contents_of(part);

  write_file(part, bytes.substr(0, bytes.size() - 1));
  EXPECT_THAT(reason_of(run), AllOf(HasSubstr("part-0001.h5"), HasSubstr("bytes, not")));
  write_file(part, bytes.substr(0, 100));
  EXPECT_THAT(reason_of(run), HasSubstr("it has 100 bytes"));
  write_file(part, std::string(bytes.size(), 'x'));
  EXPECT_THAT(reason_of(run), HasSubstr("no part of a checkpoint of Regroup"));
  std::filesystem::remove(part);
  EXPECT_THAT(reason_of(run), HasSubstr("No such file"));
  ASSERT_EQ(::mkfifo(part.c_str(), 0666), 0);
  EXPECT_THAT(reason_of(run), HasSubstr("not a regular file"));
  std::filesystem::remove(part);
  std::filesystem::create_symlink("/dev/zero", part);
  EXPECT_THAT(reason_of(run), HasSubstr("cannot open"));
  std::filesystem::remove(part);
  {
    auto file = hdf5::File::create(part).value();
    ASSERT_TRUE(file.close());
  }
  EXPECT_THAT(reason_of(run), HasSubstr("bytes, not"));
  write_file(part, bytes);
  std::filesystem::resize_file(run.directory("000002") / "view.h5", 17);
  EXPECT_THAT(reason_of(run), AllOf(HasSubstr("view.h5"), HasSubstr("it has 17 bytes")));
}

TEST(CheckpointReader, NamesPartsThatWereSwapped) {
  const TestRun run;
  for (const std::uint64_t checkpoint : {1, 2})
    ASSERT_TRUE(take(run.store, {.checkpoint = number(checkpoint), .version = checkpoint}));
  const auto part = run.directory("000002") / "part-0000.h5";
  const std::string bytes = contents_of(part);

  write_file(part, contents_of(run.directory("000002") / "part-0001.h5"));
  EXPECT_THAT(reason_of(run), HasSubstr("it says that it is of rank 1, not 0"));
  write_file(part, contents_of(run.directory("000001") / "part-0000.h5"));
  EXPECT_THAT(reason_of(run), HasSubstr("it says that it is of checkpoint 1, not 2"));
  const TestRun other;
  const CheckpointStore stranger(other.scratch.path(), "another-run");
  ASSERT_TRUE(take(stranger, {.checkpoint = number(2)}));
  write_file(part, contents_of(other.directory("000002") / "part-0000.h5"));
  EXPECT_THAT(reason_of(run), HasSubstr("of run another-run, not run-4f2c"));
  write_file(part, bytes);
  EXPECT_EQ(reason_of(run), "it opens");
}

TEST(CheckpointReader, RefusesManifestsThatAreNotItsOwn) {
  const TwoCheckpoints run;
  const std::string text = contents_of(run.manifest());

  write_file(run.manifest(), "");
  EXPECT_THAT(reason_of(run), HasSubstr("cut short"));
  write_file(run.manifest(), text.substr(0, text.size() / 2));
  EXPECT_THAT(reason_of(run), HasSubstr("cut short"));
  write_file(run.manifest(), text + "\n");
  EXPECT_THAT(reason_of(run), HasSubstr("cut short or damaged"));
  write_file(run.manifest(), contents_of(run.directory("000001") / "manifest.json"));
  EXPECT_THAT(reason_of(run), HasSubstr("it is of checkpoint 1, not 2"));
  write_file(run.manifest(), rewritten(text, "\"run-4f2c\"", "\"another-run\""));
  EXPECT_THAT(reason_of(run), HasSubstr("it is of run another-run, not run-4f2c"));
  write_file(run.manifest(), rewritten(text, "\"format_version\": 1", "\"format_version\": 2"));
  EXPECT_THAT(reason_of(run), HasSubstr("format version 2, this Regroup reads 1; use"));
  write_file(run.manifest(), rewritten(text, "regroup-checkpoint", "other-checkpoint"));
  EXPECT_THAT(reason_of(run), HasSubstr("no manifest of a checkpoint of Regroup"));
}

struct Lie {
  const char* from;
  const char* to;
  const char* reason;
};

// Manifests whose own hash is right, and what they say is not.
TEST(CheckpointReader, RefusesManifestsThatCannotBe) {
  const TwoCheckpoints run;
  const std::string text = contents_of(run.manifest());
  const std::string deep = "\"epoch\": " + std::string(5000, '[') + std::string(5000, ']');
  for (const Lie& lie : std::vector<Lie>{
           {"\"first_row\":0", "\"first_row\":-1", "'first_row' is no count"},
           {"\"first_row\":1500", "\"first_row\":1499", "row 1499 of dataset 'shards/state'"},
           {"\"rows\":1500", "\"rows\":1501", "has not the bytes that its rows need"},
           {"\"rows\":1500", "\"rows\":18446744073709551615", "'rows' is no count"},
           {"[[", "[[18446744073709551615,1],[", "lies outside its file"},
           {"\"storage\":[[", "\"storage\":[[4096,12000],[", "has not the bytes"},
           {"\"storage\":[[", "\"storage\":[[[", "no manifest: it is not a JSON object"},
           {"\"chunk_rows\":1500", "\"chunk_rows\":1", "has not the chunks"},
           {"\"chunk_rows\":1500", "\"chunk_rows\":16777216", "no valid chunks"},
           {"\"type\":\"uint8\"", "\"type\":\"uint7\"", "a type is none"},
           {"\"sink/state\"", "\"../state\"", "no valid name"},
           {R"("shards/state","type":"uint64","first_row":1500)",
            R"("sink/state/x","type":"uint64","first_row":1500)", "lies in a dataset"},
           {"\"part-0000.h5\"", "\"../../../x.h5\"", "no valid file name"},
           {"\"cost_seconds\": 0.25", "\"cost_seconds\": \"much\"", "no number"},
           {"\"epoch\": 3", "\"epochs\": 3", "member 'epoch' is missing"},
           {"\"epoch\": 3", deep.c_str(), "nests too deep"},
           {"\"files\": [", "\"files\": 7, \"x\": [", "no list"},
       }) {
    write_file(run.manifest(), rewritten(text, lie.from, lie.to));
    EXPECT_THAT(reason_of(run), HasSubstr(lie.reason)) << lie.from << " -> " << lie.to;
  }
}

// ---- Falling back ----

TEST(CheckpointReader, FallsBackPastWhatIsDamagedAndSaysWhy) {
  const TestRun run;
  for (std::uint64_t checkpoint = 1; checkpoint <= 4; ++checkpoint)
    ASSERT_TRUE(take(run.store, {.checkpoint = number(checkpoint), .version = checkpoint}));
  ASSERT_TRUE(test::write_part_of(run.store, {.checkpoint = number(5)}, 0));
  test::flip_bit(run.directory("000004") / "manifest.json", 200);
  test::flip_bit(run.directory("000003") / "part-0001.h5", 8 * 7000);
  test::flip_bit(run.directory("000003") / "view.h5", 8);

  const auto newest = run.store.open_newest_valid().value();

  ASSERT_TRUE(newest.checkpoint);
  EXPECT_EQ(newest.checkpoint->manifest().checkpoint, number(2));
  test::expect_state(*newest.checkpoint, 1000, 2);
  ASSERT_EQ(newest.passed_over.size(), 3u);
  EXPECT_THAT(newest.passed_over[0].reason, HasSubstr("manifest.json is not there"));
  EXPECT_THAT(newest.passed_over[1].reason,
              AllOf(HasSubstr("000004/manifest.json"), HasSubstr("its hash")));
  EXPECT_THAT(newest.passed_over[2].reason,
              AllOf(HasSubstr("000003: part-0001.h5: rows of 'shards/state' from 500 on"),
                    HasSubstr("2 problems in all")));
  const auto verification = run.store.verify(number(3));
  EXPECT_EQ(verification.files, 3u);
  EXPECT_EQ(verification.pieces, 3u);
  EXPECT_EQ(verification.problems.size(), 2u);
}

TEST(CheckpointReader, ReadingAWholePieceFindsDamage) {
  for (const int deflate_level : {0, 1}) {
    const TestRun run;
    ASSERT_TRUE(take(run.store, {.deflate_level = deflate_level}));
    const auto checkpoint = run.store.open(number(1)).value();
    const auto piece = checkpoint.manifest().files[1].pieces[0];
    test::flip_bit(run.directory("000001") / "part-0001.h5", 8 * piece.storage[0].end() - 64);
    std::vector<std::byte> bytes(8 * 1000);

    EXPECT_THAT(checkpoint.read("shards/state", 0, bytes).error(),
                AllOf(HasSubstr("part-0001.h5"), HasSubstr("rows of 'shards/state' from 500 on")));
  }
}

// ---- Flipped bits ----

// Nothing that is read is another thing than what was written, or an error.
void expect_no_wrong_rows(const TestRun& run) {
  const auto opened = run.store.open(number(2));
  if (!opened) return;
  const auto state = test::state_rows(0, 1500, 7);
  std::vector<std::byte> bytes(state.size());
  const bool read = opened->read("shards/state", 0, bytes).has_value();
  EXPECT_TRUE(!read || bytes == state);
  const std::vector<std::uint64_t> start = {0, 0};
  const std::vector<std::uint64_t> extent = {6, 9};
  std::vector<double> heat(54);
  const bool read_block =
      opened->read_block("grid/heat", start, extent, std::as_writable_bytes(std::span(heat)))
          .has_value();
  EXPECT_TRUE(!read_block || heat == test::heat_in(extent, start, extent, 7));
}

TEST(CheckpointReader, NoneOfTenThousandFlippedBitsGoesUnnoticed) {
  const TwoCheckpoints run;
  test::expect_valid(run.store, number(2));
  std::vector<std::filesystem::path> files;
  for (const auto& name : test::names_in(run.directory("000002")))
    files.push_back(run.directory("000002") / name);
  ASSERT_EQ(files.size(), 6u);
  std::mt19937_64 random(20260131);
  for (int flip = 0; flip < 10'000; ++flip) {
    const auto& file = files[random() % files.size()];
    const std::uint64_t bit = random() % (8 * std::filesystem::file_size(file));

    test::flip_bit(file, bit);

    ASSERT_FALSE(run.store.verify(number(2)).valid()) << file << ", bit " << bit;
    expect_no_wrong_rows(run);
    test::flip_bit(file, bit);
  }
  test::expect_valid(run.store, number(2));
}

// Every byte of the manifest, which all else hangs on.
TEST(CheckpointReader, NoBitOfTheManifestIsWithoutGuard) {
  const TwoCheckpoints run;
  const std::string text = contents_of(run.manifest());
  ASSERT_TRUE(parse_manifest(text));
  for (std::size_t at = 0; at < text.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = text;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
      ASSERT_FALSE(parse_manifest(flipped)) << "byte " << at << ", bit " << bit;
    }
  }
}

// ---- Other people's readers ----

TEST(CheckpointElsewhere, H5pyReadsPartsAndViewAsOneArray) {
  const std::string python = test::python_with_h5py();
  if (python.empty()) GTEST_SKIP() << "no python3 with h5py is installed";
  const TestRun run;
  ASSERT_TRUE(take(run.store, {.checkpoint = number(1), .rows = 300'000}));
  ASSERT_TRUE(
      take(run.store,
           {.checkpoint = number(2), .rows = 300'000, .deflate_level = 1, .linked = number(1)}));
  write_file(run.scratch.path() / "read.py", R"(import h5py, json, sys
factor = 0x9E3779B97F4A7C15
directory = sys.argv[1]
with h5py.File(directory + "/view.h5") as view:
    state = view["shards/state"]
    assert state.is_virtual and state.shape == (300000,), state
    for row, value in enumerate(state[:].tolist()):
        assert value in (row + 7, (row + 7) * factor % 2**64), row
    assert view["sink/state"].shape == (100,)
for part in json.load(open(directory + "/manifest.json"))["files"]:
    with h5py.File(directory + "/" + part["file"]) as f:
        assert f.userblock_size == 4096
        assert f.attrs["run"].decode() == "run-4f2c"
        assert f.attrs["checkpoint"] == part["checkpoint"] and f.attrs["rank"] == part["rank"]
        assert f.attrs["note"].decode() == "a text" and f.attrs["ratio"] == 0.1
        for piece in part["pieces"]:
            dataset = f[piece.get("path", piece["dataset"])]
            assert dataset.attrs["first_row"] == piece["first_row"]
            assert dataset.attrs["xxh3_128"].decode() == piece["xxh3_128"]
            if "chunk_rows" not in piece:
                assert [dataset.id.get_offset(), dataset.nbytes] == piece["storage"][0]
            for row, value in enumerate(dataset[:].tolist()):
                row += piece["first_row"] + 7
                assert piece["dataset"] != "shards/state" or value in (row, row * factor % 2**64)
)");

  for (const std::string checkpoint : {"000001", "000002"}) {
    const std::string command = python + " " + (run.scratch.path() / "read.py").string() + " " +
                                run.directory(checkpoint).string();
    EXPECT_EQ(std::system(command.c_str()), 0) << checkpoint;
  }
}

TEST(CheckpointElsewhere, H5dumpReadsRowsOverTheBorderOfTwoParts) {
  if (!runs("h5dump --version")) GTEST_SKIP() << "h5dump is not installed";
  const TestRun run;
  ASSERT_TRUE(take(run.store, {.rows = 4}));
  const std::string view = (run.directory("000001") / "view.h5").string();

  ASSERT_EQ(
      std::system(("h5dump -d /shards/state -s 1 -c 2 " + view + " >" + view + ".txt").c_str()), 0);

  EXPECT_THAT(contents_of(view + ".txt"), AllOf(HasSubstr("( 4 ) / ( 4 )"), HasSubstr("9")));
  EXPECT_TRUE(runs("h5dump " + (run.directory("000001") / "part-0001.h5").string()));
}

}  // namespace
}  // namespace regroup
