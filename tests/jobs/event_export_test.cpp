#include "jobs/event_export.hpp"

#include <map>
#include <set>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace regroup {
namespace {

using testing::StartsWith;
using Json = nlohmann::json;

constexpr std::int64_t kUtc = 5 * kSecond;

const std::vector<SegmentHead> kHeads = {{.launch = 1, .rank = RankId{0}, .ranks = 2, .utc = kUtc},
                                         {.launch = 1, .rank = RankId{1}, .ranks = 2, .utc = kUtc}};

JournalEvent timed(const Event& event, std::int64_t after = 0) {
  return {event, 1, kUtc + after};
}

const JournalEvent kSent = timed({.kind = EventKind::kSend,
                                  .rank = RankId{0},
                                  .peer = RankId{1},
                                  .lamport = 7,
                                  .a = 7,
                                  .b = 33,
                                  .vector = {4, 0}},
                                 1000);
const JournalEvent kReceived = timed({.kind = EventKind::kReceive,
                                      .rank = RankId{1},
                                      .peer = RankId{0},
                                      .lamport = 8,
                                      .a = 7,
                                      .b = 33,
                                      .vector = {4, 2}},
                                     3000);
const JournalEvent kWorked = timed({.kind = EventKind::kWork,
                                    .rank = RankId{1},
                                    .peer = RankId{1},
                                    .lamport = 9,
                                    .a = 10,
                                    .b = 3,
                                    .took = 4000,
                                    .vector = {4, 3}},
                                   9000);

std::string exported(EventFormat format) {
  const auto into = make_event_export(format, kHeads);
  std::string text = into->begin();
  for (const JournalEvent& event : {kSent, kReceived, kWorked}) text += into->add(event);
  return text + into->end();
}

TEST(EventExport, HasFourFormats) {
  EXPECT_EQ(event_format_named("text"), EventFormat::kText);
  EXPECT_EQ(event_format_named("jsonl"), EventFormat::kJsonl);
  EXPECT_EQ(event_format_named("shiviz"), EventFormat::kShiviz);
  EXPECT_EQ(event_format_named("perfetto"), EventFormat::kPerfetto);
  EXPECT_EQ(event_format_named("csv"), std::nullopt);
}

TEST(EventExport, SaysEachKindInWords) {
  std::set<std::string> texts;
  for (std::size_t i = 0; i < kEventKinds; ++i) {
    const std::string text = event_text({.kind = EventKind{static_cast<std::uint8_t>(i)}});
    texts.insert(text);
  }
  EXPECT_EQ(texts.size(), kEventKinds);
  EXPECT_EQ(event_text(kSent.event), "sends lease to rank 1");
  EXPECT_EQ(event_text(kWorked.event), "computes shards 10 to 12 of stage 0");
  EXPECT_EQ(event_text({.kind = EventKind::kCommit, .a = 4, .b = 1}), "commits shard 4 of stage 0");
  EXPECT_EQ(event_text({.kind = EventKind::kEvidence, .peer = RankId{3}, .a = 1}),
            "learns that rank 3 is silent");
}

TEST(EventExport, TextHasALineForEach) {
  EXPECT_EQ(exported(EventFormat::kText),
            "    0.000001 s  rank 0           7  sends lease to rank 1\n"
            "    0.000003 s  rank 1           8  receives lease from rank 0\n"
            "    0.000009 s  rank 1           9  computes shards 10 to 12 of stage 0\n");
}

TEST(EventExport, JsonlHasAnObjectForEach) {
  std::istringstream lines(exported(EventFormat::kJsonl));
  std::string line;
  ASSERT_TRUE(std::getline(lines, line));
  const Json sent = Json::parse(line);
  EXPECT_EQ(sent["kind"], "send");
  EXPECT_EQ(sent["rank"], 0);
  EXPECT_EQ(sent["peer"], 1);
  EXPECT_EQ(sent["lamport"], 7);
  EXPECT_EQ(sent["utc_ns"], kUtc + 1000);
  EXPECT_EQ(sent["vector"], Json::array({4, 0}));
}

TEST(EventExport, ShivizHasAClockAndWords) {
  EXPECT_THAT(exported(EventFormat::kShiviz),
              StartsWith("rank0 {\"rank0\":4}\nsends lease to rank 1\n"
                         "rank1 {\"rank0\":4,\"rank1\":2}\nreceives lease from rank 0\n"));
}

TEST(EventExport, ShivizIsToldNothingOfEventsThatWereLost) {
  const auto into = make_event_export(EventFormat::kShiviz, kHeads);
  EXPECT_THAT(into->add(kReceived), StartsWith("rank1 {\"rank1\":2}\n"));
}

TEST(EventExport, PerfettoHasATrackARankAndAnArrowAMessage) {
  const Json trace = Json::parse(exported(EventFormat::kPerfetto));
  std::map<std::string, std::vector<Json>> by_phase;
  for (const Json& event : trace["traceEvents"]) by_phase[event["ph"]].push_back(event);
  ASSERT_EQ(by_phase["M"].size(), 2u);
  EXPECT_EQ(by_phase["M"][1]["args"]["name"], "rank 1");
  ASSERT_EQ(by_phase["s"].size(), 1u);
  ASSERT_EQ(by_phase["f"].size(), 1u);
  EXPECT_EQ(by_phase["s"][0]["id"], by_phase["f"][0]["id"]);
  EXPECT_EQ(by_phase["s"][0]["tid"], 0);
  EXPECT_EQ(by_phase["f"][0]["tid"], 1);
  const Json& work = by_phase["X"].back();
  EXPECT_EQ(work["ts"], 5.0) << "when it began";
  EXPECT_EQ(work["dur"], 4.0);
}

}  // namespace
}  // namespace regroup
