#include "jobs/inspection_report.hpp"

#include <algorithm>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace regroup {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

CheckpointManifest a_manifest(std::uint64_t number) {
  CheckpointManifest manifest{.run = "run-1",
                              .checkpoint = CheckpointNumber{number},
                              .epoch = Epoch{2},
                              .facts = {},
                              .files = {},
                              .view = {.bytes = 1024, .hash = {}}};
  manifest.facts = {.job = "montecarlo",
                    .parameters = {{"samples", "1000"}, {"file", "\033[2J"}},
                    .seed = 7,
                    .software = {{"regroup", "0.1.0"}},
                    .ranks = 4,
                    .lamport = 5,
                    .utc = "2026-01-31T23:59:59Z",
                    .cost_seconds = 0.25};
  PartFile own;
  own.written_in = CheckpointNumber{number};
  own.bytes = 2048;
  PartFile linked;
  linked.written_in = CheckpointNumber{1};
  linked.bytes = 3072;
  manifest.files = {own, linked};
  return manifest;
}

// Killed in the middle, with checkpoints 1 to 3.
RunInspection an_inspection() {
  RunInspection inspection;
  inspection.directory = "my run";
  RunStatus& status = inspection.status;
  status.job = "montecarlo";
  status.run = "run-1";
  status.seed = 7;
  status.state = RunState::kRunning;
  status.epoch = 2;
  status.members = {0, 1, 3};
  status.shards_done = 7;
  status.shards_total = 10;
  status.failures_survived = 1;
  status.recoveries = {{.epoch = 2,
                        .lost = {2},
                        .joined = {},
                        .evidence = std::string(kEvidenceDead),
                        .detected_utc = "2026-01-31T23:50:00Z",
                        .detected_seconds = 3,
                        .agreed_ms = 1.5,
                        .resumed_ms = {}}};
  status.seconds = 12.5;
  status.regroup_version = "0.1.0";
  status.started_utc = "2026-01-31T23:49:57Z";
  status.updated_utc = "2026-01-31T23:59:59Z";
  status.host = "node-7";
  inspection.in_use = false;
  inspection.checkpoints.entries = {
      {CheckpointNumber{3}, CheckpointState::kUnfinished, "no manifest", {}},
      {CheckpointNumber{2}, CheckpointState::kSealed, "", a_manifest(2)},
      {CheckpointNumber{1}, CheckpointState::kDamaged, "part-0001.h5: it is gone", {}}};
  return inspection;
}

TEST(InspectionText, TellsAll) {
  EXPECT_EQ(inspection_text(an_inspection(), "regroup", 200),
            "job            montecarlo\n"
            "directory      my run\n"
            "state          running when it was last heard of; no live run is there\n"
            "started        2026-01-31T23:49:57Z by regroup 0.1.0 on node-7\n"
            "updated        2026-01-31T23:59:59Z, after 12.5 s\n"
            "shards         7 of 10 done\n"
            "seed           7\n"
            "ranks          3 (0-1,3) in epoch 2\n"
            "failures       1 survived\n"
            "               2026-01-31T23:50:00Z view 2 without rank 2, known dead: 1.5 ms to "
            "agree\n"
            "checkpoint 3   unfinished: no manifest\n"
            "checkpoint 2   sealed 2026-01-31T23:59:59Z in epoch 2 by 4 ranks: 6.0 KiB in 2 part "
            "files, 1 of them linked from earlier ones; took 0.25 s\n"
            "               of job montecarlo, seed 7\n"
            "               parameters samples=1000, file=\\x1b[2J\n"
            "               written by regroup 0.1.0\n"
            "checkpoint 1   damaged: part-0001.h5: it is gone\n"
            "result         none\n"
            "next           regroup resume 'my run'\n");
}

TEST(InspectionText, FitsANarrowTerminal) {
  std::istringstream lines(inspection_text(an_inspection(), "regroup", 44));
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 44u) << line;
}

TEST(InspectionText, TellsTheResultOfARunThatIsDone) {
  RunInspection inspection = an_inspection();
  inspection.status.state = RunState::kDone;
  inspection.status.exit = 1;
  inspection.status.message = "2 shards were given up";
  inspection.status.quarantined = 2;
  inspection.result = {.bytes = 2048,
                       .rows = 1,
                       .columns = {{"count", ColumnType::kUint64}, {"word", ColumnType::kText}},
                       .scalars = {"words"},
                       .problem = {}};

  const std::string text = inspection_text(inspection, "dice", 200);

  EXPECT_THAT(text, HasSubstr("state          done, exit status 1\n"));
  EXPECT_THAT(text, HasSubstr("message        2 shards were given up\n"));
  EXPECT_THAT(text, HasSubstr("7 of 10 done, 2 given up\n"));
  EXPECT_THAT(text, HasSubstr("result         2.0 KiB; 1 value: words; 1 row of 2 columns: count, "
                              "word\n"));
  EXPECT_THAT(text, HasSubstr("next           dice results 'my run'\n"));
}

TEST(InspectionText, OfManyColumnsShowsSome) {
  RunInspection inspection = an_inspection();
  inspection.result.emplace();
  for (int i = 0; i < 20; ++i) inspection.result->scalars.push_back("value-" + std::to_string(i));

  EXPECT_THAT(inspection_text(inspection, "regroup", 200), HasSubstr("value-7 and 12 more"));
}

TEST(InspectionText, ShowsWhatTheStatusSaysOfCheckpointing) {
  RunInspection inspection = an_inspection();
  EXPECT_THAT(inspection_text(inspection, "regroup", 200), Not(HasSubstr("checkpointing")));

  inspection.status.checkpointing = {.sealed = 3,
                                     .failed = 1,
                                     .error = "no space left",
                                     .storage = "open",
                                     .cost_seconds = 0.25,
                                     .interval_seconds = 120.5,
                                     .failure_interval_seconds = 86'400};

  EXPECT_THAT(inspection_text(inspection, "regroup", 200),
              AllOf(HasSubstr("checkpointing  every 120.5 s, one takes 0.250 s, a failure every "
                              "86400 s\n"),
                    HasSubstr("3 sealed, 1 failed in the last launch; its storage's breaker is "
                              "open\n"),
                    HasSubstr("no space left\n")));
}

TEST(InspectionText, TellsTheStepOfCells) {
  RunInspection inspection = an_inspection();
  EXPECT_THAT(inspection_text(inspection, "regroup", 200), Not(HasSubstr("cells are at")));
  inspection.status.step = 1200;
  EXPECT_THAT(inspection_text(inspection, "regroup", 200),
              HasSubstr("7 of 10 done; cells are at step 1200\n"));
  inspection.status.steps = 5000;
  EXPECT_THAT(inspection_text(inspection, "regroup", 200),
              HasSubstr("7 of 10 done; cells are at step 1200 of 5000\n"));
}

TEST(InspectionText, ShowsCopiesAndWhatTheyWereGoodFor) {
  RunInspection inspection = an_inspection();
  inspection.status.partner_copies.emplace();
  EXPECT_THAT(inspection_text(inspection, "regroup", 200),
              AllOf(Not(HasSubstr("copies")), Not(HasSubstr("came back"))));

  inspection.status.partner_copies = {.rounds = 3,
                                      .partitions = 64,
                                      .bytes = 2 << 20,
                                      .refused = 5,
                                      .cost_seconds = 0.0125,
                                      .interval_seconds = 20,
                                      .sent_bytes = 1 << 20,
                                      .sending_seconds = 0.25};
  inspection.status.restored_from = {.memory = 1, .partner = 31, .file = 2};
  inspection.status.shards_repeated = 6;

  EXPECT_THAT(
      inspection_text(inspection, "regroup", 200),
      AllOf(HasSubstr("copies         64 partitions in partners' memory, 2.0 MiB, every 20.0 s, "
                      "a round takes 0.013 s, sent at 4.0 MiB/s\n"),
            HasSubstr("5 refused, for want of room: see --partner-memory\n"),
            HasSubstr("34 partitions came back: 1 from the owner's own memory, 31 from a "
                      "partner's, 2 from a file; 6 map shards done again\n")));
}

TEST(Inspection, CountsAndNamesFields) {
  RunInspection inspection = an_inspection();
  PartFile& part = inspection.checkpoints.entries[1].manifest->files[0];
  for (const char* name : {"heat", "flux"}) {
    part.pieces.push_back(
        {.dataset = std::string("grid/") + name,
         .block = FieldBlock{.field = {.name = name}, .start = {}, .extent = {}}});
  }
  part.pieces.push_back({.dataset = "grid/old", .current = false, .block = FieldBlock{}});

  EXPECT_THAT(inspection_text(inspection, "regroup", 200),
              HasSubstr("1 of them linked from earlier ones, 2 fields; took 0.25 s\n"));
  EXPECT_EQ(
      nlohmann::json::parse(inspection_json(inspection, "regroup"))["checkpoints"][1]["fields"],
      nlohmann::json({"flux", "heat"}));
}

TEST(InspectionText, SaysWhoHoldsTheDirectory) {
  RunInspection inspection = an_inspection();
  inspection.in_use = true;
  EXPECT_THAT(inspection_text(inspection, "regroup", 200),
              HasSubstr("running; a live run holds the directory\n"));
  inspection.in_use.reset();
  EXPECT_THAT(inspection_text(inspection, "regroup", 200), HasSubstr("is not known\n"));
}

TEST(NextCommand, IsTheOneThatApplies) {
  RunInspection inspection = an_inspection();
  EXPECT_EQ(next_command(inspection, "regroup"), "regroup resume 'my run'");
  inspection.in_use = true;
  EXPECT_EQ(next_command(inspection, "regroup"), "") << "it goes on by itself";
  inspection.in_use = false;
  inspection.checkpoints.entries.erase(inspection.checkpoints.entries.begin() + 1);
  EXPECT_EQ(next_command(inspection, "regroup"), "") << "nothing to go on from";
  inspection.status.state = RunState::kDone;
  EXPECT_EQ(next_command(inspection, "regroup"), "") << "its result is gone";
  inspection.result.emplace();
  EXPECT_EQ(next_command(inspection, "regroup"), "regroup results 'my run'");
}

TEST(InspectionJson, HoldsTheStatusAndWhatElseIsThere) {
  RunInspection inspection = an_inspection();
  inspection.status.checkpointing = {.storage = "closed", .interval_seconds = 120.5};

  const auto object = nlohmann::json::parse(inspection_json(inspection, "regroup"));

  for (const char* key : {"job", "run", "state", "exit", "message", "epoch", "members",
                          "shards_done", "shards_total", "quarantined", "step", "steps",
                          "failures_survived", "recoveries", "host", "regroup_version", "result"}) {
    EXPECT_TRUE(object.contains(key)) << key;
  }
  EXPECT_EQ(object["dir"], "my run");
  EXPECT_EQ(object["in_use"], false);
  EXPECT_EQ(object["checkpointing"]["interval_seconds"], 120.5);
  EXPECT_EQ(object["next"], "regroup resume 'my run'");
  ASSERT_EQ(object["checkpoints"].size(), 3u);
  EXPECT_EQ(object["checkpoints"][0]["state"], "unfinished");
  const auto& sealed = object["checkpoints"][1];
  EXPECT_EQ(sealed["checkpoint"], 2);
  EXPECT_EQ(sealed["bytes"], 6144);
  EXPECT_EQ(sealed["linked_part_files"], 1);
  EXPECT_EQ(sealed["cost_seconds"], 0.25);
  EXPECT_EQ(sealed["parameters"][0]["value"], "1000");
}

TEST(InspectionJson, IsJsonWhateverIsThere) {
  RunInspection inspection = an_inspection();
  inspection.directory = "a\xff";
  inspection.checkpoints.entries[1].manifest->facts.parameters = {{"\xfe", "\xff"}};
  inspection.in_use.reset();
  inspection.result = {.bytes = 1, .rows = 0, .columns = {}, .scalars = {}, .problem = "\xff"};

  const auto object = nlohmann::json::parse(inspection_json(inspection, "regroup"));

  EXPECT_TRUE(object["in_use"].is_null());
  EXPECT_EQ(object["result"]["problem"], "\uFFFD");
  EXPECT_FALSE(object["result"].contains("rows"));
}

}  // namespace
}  // namespace regroup
