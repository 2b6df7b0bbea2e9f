#include "jobs/run_summary.hpp"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace regroup {
namespace {

RunSummary table_summary() {
  RunSummary summary{.job = "wordcount", .dir = "my-run", .shards = 12, .ranks = 3, .seconds = 1.5};
  summary.values = {{"words", std::uint64_t{30}}, {"mean", 0.5}};
  summary.columns = {{"count", ColumnType::kUint64}, {"word", ColumnType::kText}};
  summary.first_rows = {{std::uint64_t{20}, "the"}, {std::uint64_t{1}, "\033[2J"}};
  summary.rows = 5;
  return summary;
}

TEST(SummaryText, ShowsValuesThenRowsThenWhereAllOfItIs) {
  EXPECT_EQ(summary_text(table_summary(), "regroup"),
            "words  30\n"
            "mean   0.5\n"
            "\n"
            "       count  word\n"
            "          20  the\n"
            "           1  \\x1b[2J\n"
            "         ...  and 3 more\n"
            "\n"
            "12 shards in 1.50 s on 3 ranks; all of it: regroup results my-run\n");
}

TEST(SummaryText, CountsOneAsOne) {
  EXPECT_EQ(summary_text({.job = "j", .dir = "d", .shards = 1, .ranks = 1}, "dice"),
            "\n1 shard in 0.00 s on 1 rank; all of it: dice results d\n");
}

TEST(SummaryText, EndsWithThePictures) {
  RunSummary summary{.job = "j", .dir = "my-run", .shards = 1, .ranks = 1};
  summary.picture_files = {"one.png", "two.png"};
  EXPECT_THAT(summary_text(summary, "regroup"), testing::EndsWith("results my-run\n"
                                                                  "picture: my-run/one.png\n"
                                                                  "picture: my-run/two.png\n"));
}

TEST(SummaryText, ARunWithoutAResultShowsNone) {
  RunSummary summary = table_summary();
  summary.exit_status = 1;
  EXPECT_NE(summary_text(summary, "regroup"), "");
  summary.exit_status = 3;
  EXPECT_EQ(summary_text(summary, "regroup"), "");
}

TEST(SummaryJson, HoldsWhatScriptsRelyOn) {
  const std::string line = summary_json(table_summary());
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const auto object = nlohmann::json::parse(line);
  for (const char* key : {"job", "dir", "shards", "seconds", "ranks", "epoch", "failures_survived",
                          "exit", "result", "quarantined", "message", "recoveries"}) {
    EXPECT_TRUE(object.contains(key)) << key;
  }
  EXPECT_EQ(object["job"], "wordcount");
  EXPECT_EQ(object["result"]["words"], 30);
  EXPECT_EQ(object["result"]["rows"], 5);
  EXPECT_EQ(object["result"]["first_rows"][0]["word"], "the");
  EXPECT_EQ(object["result"]["first_rows"].size(), 2u);
  EXPECT_TRUE(object["pictures"].empty());
}

TEST(SummaryJson, NamesThePictures) {
  RunSummary summary = table_summary();
  summary.picture_files = {"one.png"};
  EXPECT_EQ(nlohmann::json::parse(summary_json(summary))["pictures"],
            nlohmann::json({"my-run/one.png"}));
}

TEST(SummaryJson, IsJsonWhateverTheResultIs) {
  RunSummary summary = table_summary();
  summary.values.push_back({"nothing", std::numeric_limits<double>::quiet_NaN()});
  summary.first_rows[0][1] = std::string("\xff\xfe");
  const auto object = nlohmann::json::parse(summary_json(summary));
  EXPECT_TRUE(object["result"]["nothing"].is_null());
  EXPECT_EQ(object["result"]["first_rows"][0]["word"], "\uFFFD\uFFFD");
}

}  // namespace
}  // namespace regroup
