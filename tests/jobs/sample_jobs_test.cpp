// montecarlo and wordcount as Programs, held against plain serial code.
#include "jobs/sample_jobs.hpp"

#include <cmath>
#include <map>
#include <random>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/montecarlo/montecarlo.hpp"
#include "tests/jobs/error_of.hpp"
#include "tests/jobs/program_run.hpp"

namespace regroup {
namespace {

using testing::HasSubstr;

std::unique_ptr<Program> make(const char* name) {
  JobRegistry registry;
  add_montecarlo(registry);
  add_wordcount(registry);
  return registry.make(name);
}
std::unique_ptr<Program> make_montecarlo() {
  return make("montecarlo");
}
std::unique_ptr<Program> make_wordcount() {
  return make("wordcount");
}

double real(const ReportPicture& picture, const std::string& name) {
  for (const NamedValue& value : picture.values) {
    if (value.name == name) return std::get<double>(value.value);
  }
  ADD_FAILURE() << "no value " << name;
  return 0;
}

// ---- montecarlo ----

TEST(MonteCarloJob, IsTheSerialSumOfItsShards) {
  constexpr std::uint64_t kSamples = 10'500;
  constexpr std::uint64_t kShardSamples = 1000;
  constexpr std::uint64_t kSeed = 42;
  const kernels::OptionParameters parameters;
  kernels::PiSums pi;
  kernels::PayoffSums european;
  kernels::PayoffSums asian;
  for (std::uint64_t shard = 0; shard * kShardSamples < kSamples; ++shard) {
    const std::uint64_t count = std::min(kShardSamples, kSamples - shard * kShardSamples);
    pi += kernels::sample_pi(kSeed, 3 * shard, count);
    european += kernels::sample_european(kSeed, 3 * shard + 1, count, parameters);
    asian += kernels::sample_asian(kSeed, 3 * shard + 2, count, parameters, 12);
  }

  for (std::uint64_t order = 0; order < 3; ++order) {
    ProgramRun run(make_montecarlo, {{"samples", "10500"}, {"shard-samples", "1000"}}, {},
                   {.ranks = 3, .order_seed = order, .seed = kSeed});
    const ReportPicture picture = run.run();

    EXPECT_EQ(picture.values.at(0), (NamedValue{"samples", kSamples}));
    EXPECT_EQ(real(picture, "pi"), pi.estimate());
    EXPECT_EQ(real(picture, "pi_standard_error"), pi.standard_error());
    EXPECT_EQ(real(picture, "european"), european.mean());
    EXPECT_EQ(real(picture, "asian"), asian.mean());
  }
}

TEST(MonteCarloJob, EstimatesLieWithinTheirErrors) {
  ProgramRun run(make_montecarlo,
                 {{"samples", "200000"}, {"shard-samples", "10000"}, {"kind", "put"}}, {}, {});
  const ReportPicture picture = run.run();
  EXPECT_NEAR(real(picture, "pi"), std::acos(-1.0), 5 * real(picture, "pi_standard_error"));
  EXPECT_NEAR(real(picture, "european"), real(picture, "european_black_scholes"),
              5 * real(picture, "european_standard_error"));
}

TEST(MonteCarloJob, RefusesWhatHasNoPrice) {
  const auto prepared = [](const char* name, const char* value) {
    const auto program = make_montecarlo();
    EXPECT_EQ(error_of(program->options().find(name)->set(value)), "");
    return error_of(program->prepare());
  };
  EXPECT_EQ(prepared("spot", "100"), "");
  EXPECT_THAT(prepared("spot", "0"), HasSubstr("--spot: must be from"));
  EXPECT_THAT(prepared("volatility", "100"), HasSubstr("--volatility: must be from"));
  EXPECT_THAT(prepared("maturity", "1000"), HasSubstr("--maturity: must be from"));
}

// ---- wordcount ----

struct CountOptions {
  bool ignore_case = false;
  std::size_t min_length = 0;
  std::size_t top = 0;
};

// Rows as the job is to report them, with a plain map and a plain sort.
std::vector<std::vector<ResultValue>> rows_of(const std::vector<std::string>& texts,
                                              const CountOptions& options) {
  std::map<std::string, std::uint64_t> counts;
  for (const std::string& text : texts) {
    std::string word;
    for (const char c : text + ' ') {
      if (!std::string_view(" \t\n\v\f\r").contains(c)) {
        const bool upper = options.ignore_case && c >= 'A' && c <= 'Z';
        word += upper ? static_cast<char>(c - 'A' + 'a') : c;
      } else if (!word.empty()) {
        if (word.size() >= options.min_length) ++counts[word];
        word.clear();
      }
    }
  }
  std::vector<std::pair<std::string, std::uint64_t>> sorted(counts.begin(), counts.end());
  std::ranges::stable_sort(sorted, std::greater<>(),
                           [](const auto& entry) { return entry.second; });
  std::vector<std::vector<ResultValue>> rows;
  for (const auto& [word, count] : sorted) rows.push_back({count, word});
  if (options.top != 0 && rows.size() > options.top) rows.resize(options.top);
  return rows;
}

std::string random_text(std::uint64_t seed, std::size_t words) {
  std::mt19937_64 random(seed);
  std::string text;
  for (std::size_t i = 0; i < words; ++i) {
    const std::uint64_t word = random() % (1 + random() % 60);
    text += (word % 2 == 0 ? "Word" : "word") + std::to_string(word / 2);
    text += " \n\t\r "[random() % 5];
    if (random() % 50 == 0) text += "   ";
  }
  return text;
}

void expect_rows(const ReportPicture& picture, std::vector<std::vector<ResultValue>> rows) {
  EXPECT_EQ(picture.row_count, rows.size());
  if (rows.size() > Report::kPreviewRowsMax) rows.resize(Report::kPreviewRowsMax);
  EXPECT_EQ(picture.rows, rows);
}

TEST(WordCountJob, CountsWhatAPlainLoopCounts) {
  const TemporaryFolder folder;
  const std::vector<std::string> texts = {random_text(1, 3000), "", "one\xff\x01word", " \n\t ",
                                          random_text(2, 500)};
  std::vector<std::string> files;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    files.push_back(folder.write("text" + std::to_string(i), texts[i]));
  }
  for (const char* shard_bytes : {"0", "1000", "97"}) {
    for (std::uint32_t ranks : {1u, 3u}) {
      ProgramRun run(make_wordcount, {{"shard-bytes", shard_bytes}}, files,
                     {.ranks = ranks, .order_seed = ranks});
      expect_rows(run.run(), rows_of(texts, {}));
    }
  }
}

TEST(WordCountJob, OptionsChangeWhatCounts) {
  const TemporaryFolder folder;
  const std::string text = random_text(3, 2000);
  const std::string file = folder.write("text", text);
  ProgramRun run(
      make_wordcount,
      {{"ignore-case", "true"}, {"min-length", "6"}, {"top", "7"}, {"shard-bytes", "500"}}, {file},
      {.ranks = 2});
  expect_rows(run.run(), rows_of({text}, {.ignore_case = true, .min_length = 6, .top = 7}));
}

TEST(WordCountJob, TotalsCountWhatTopLeavesOut) {
  const TemporaryFolder folder;
  const std::string file = folder.write("text", "a b a c");
  ProgramRun run(make_wordcount, {{"top", "1"}}, {file}, {});
  EXPECT_EQ(run.run().values, (std::vector<NamedValue>{{"words", std::uint64_t{4}},
                                                       {"distinct_words", std::uint64_t{3}},
                                                       {"bytes", std::uint64_t{7}},
                                                       {"files", std::uint64_t{1}}}));
}

TEST(WordCountJob, AListNamesFilesAsWell) {
  const TemporaryFolder folder;
  const std::string one = folder.write("one", "a b");
  const std::string two = folder.write("-two", "a");
  const std::string list = folder.write("list", two + "\n\n");
  ProgramRun run(make_wordcount, {{"files-from", list}}, {one}, {});
  expect_rows(run.run(), rows_of({"a b a"}, {}));
}

TEST(WordCountJob, SaysWhichInputCannotBeCounted) {
  const TemporaryFolder folder;
  const auto prepared = [](const std::string& from, const std::vector<std::string>& files) {
    const auto program = make_wordcount();
    if (!from.empty()) (void)program->options().find("files-from")->set(from);
    for (const std::string& file : files) (void)program->options().input_list()->set(file);
    return error_of(program->prepare());
  };
  EXPECT_EQ(prepared("", {}), "no input: name files, or a list with --files-from");
  EXPECT_THAT(prepared("", {folder.path("none")}),
              HasSubstr(folder.path("none") + ": no such file"));
  EXPECT_THAT(prepared("", {folder.path("")}), HasSubstr("is a directory; name files"));
  EXPECT_THAT(prepared(folder.path(""), {}), HasSubstr("is a directory; --files-from takes"));
  EXPECT_THAT(prepared(folder.path("none"), {}), HasSubstr("cannot be read; --files-from takes"));
  EXPECT_THAT(prepared(folder.write("empty", "\n\n"), {}), HasSubstr("names no file"));
}

// A rank that sees `now` where the coordinator saw `before` fails its shards, naming the file.
void expect_shard_fails(const std::string& before, const std::string& now,
                        const std::string& problem) {
  const TemporaryFolder folder;
  const std::string file = folder.write("text", before);
  const auto coordinator = make_wordcount();
  (void)coordinator->options().input_list()->set(file);
  (void)coordinator->options().find("shard-bytes")->set("1000");
  ASSERT_EQ(error_of(coordinator->prepare()), "");
  const Buffer description = describe_job(*coordinator, 1);
  folder.write("text", now);
  const auto program = make_wordcount();
  JobExecutor executor(*program, 1, {}, [] { return std::expected<void, std::string>(); });
  WorkResult result;
  WorkOrder open{.kind = WorkKind::kOpen, .input = Buffer(description.view())};
  result.restart(open);
  executor.execute(open, result);
  ASSERT_EQ(result.error, "");

  WorkOrder order{.kind = WorkKind::kRun, .shards = {ShardId{1}, 1}, .attempt = Attempt{1}};
  result.restart(order);
  executor.execute(order, result);

  ASSERT_EQ(result.failures.size(), 1u);
  EXPECT_THAT(result.failures[0].what, HasSubstr(file + ": " + problem));
}

TEST(WordCountJob, AFileThatBecameShorterFailsItsShards) {
  expect_shard_fails(random_text(4, 500), "short", "is shorter than");
}

TEST(WordCountJob, AFileWithOtherContentFailsItsShards) {
  const std::string text = random_text(4, 500);
  std::string other = text;
  other.back() = '!';
  expect_shard_fails(text, other, "is as long as where it was measured, but holds something else");
}

TEST(WordCountJob, RefusesADescriptionThatIsCut) {
  const TemporaryFolder folder;
  const auto coordinator = make_wordcount();
  (void)coordinator->options().input_list()->set(folder.write("text", "a b c"));
  ASSERT_EQ(error_of(coordinator->prepare()), "");
  const Buffer description = describe_job(*coordinator, 1);
  for (std::size_t length = 0; length < description.size(); ++length) {
    const auto program = make_wordcount();
    JobExecutor executor(*program, 1, {}, [] { return std::expected<void, std::string>(); });
    WorkOrder order{.kind = WorkKind::kOpen, .input = Buffer(description.view().first(length))};
    WorkResult result;
    result.restart(order);
    executor.execute(order, result);
    EXPECT_NE(result.error, "") << length << " bytes";
  }
}

}  // namespace
}  // namespace regroup
