// The log of reports that are not safe yet: order, forgetting, and what it says of its size, by
// hand and against a plain list.
#include "scheduler/report_log.hpp"

#include <deque>
#include <random>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace regroup {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// A report as the test remembers it.
struct Report {
  std::uint64_t number = 0;
  std::uint16_t stage = 0;
  std::uint32_t entries = 0;
  std::vector<std::byte> values;

  friend bool operator==(const Report&, const Report&) = default;
};

constexpr std::size_t kHeadBytes = 8 + 2 + 4 + 4;  // number, stage, entries, length

Report a_report(std::uint64_t number, std::size_t bytes, std::uint16_t stage = 0) {
  return {number, stage, static_cast<std::uint32_t>(number % 7),
          std::vector(bytes, static_cast<std::byte>(number))};
}

void add(ReportLog& log, const Report& report) {
  Buffer values(report.values);
  log.add(report.number, StageId{report.stage}, report.entries, values);
  EXPECT_TRUE(values.empty());
}

template <class Reports>
std::size_t bytes_of(const Reports& reports) {
  std::size_t bytes = 0;
  for (const Report& report : reports) {
    const bool large = report.values.size() >= ReportLog::kLargeBytes;
    bytes += (large ? 0 : kHeadBytes) + report.values.size();
  }
  return bytes;
}

std::vector<Report> all(const ReportLog& log) {
  std::vector<Report> reports;
  log.for_each([&](const ResultReport& report) {
    reports.push_back({report.number,
                       report.stage.value,
                       report.entries,
                       {report.values.begin(), report.values.end()}});
  });
  return reports;
}

std::vector<std::uint64_t> numbers(const ReportLog& log) {
  std::vector<std::uint64_t> found;
  log.for_each([&](const ResultReport& report) { found.push_back(report.number); });
  return found;
}

TEST(ReportLog, KeepsReportsAsTheyWereInTheirOrder) {
  ReportLog log;
  EXPECT_TRUE(log.empty());
  EXPECT_THAT(all(log), IsEmpty());

  const std::vector<Report> reports{a_report(1, 100), a_report(2, 0, 3), a_report(9, 3584, 65'534)};
  for (const Report& report : reports) add(log, report);

  EXPECT_EQ(all(log), reports);
  EXPECT_EQ(log.bytes(), bytes_of(reports));
  EXPECT_FALSE(log.empty());
}

TEST(ReportLog, ForgetsThoseThatAreSafe) {
  ReportLog log;
  for (const std::uint64_t number : {2, 4, 6, 8}) add(log, a_report(number, 10));
  log.drop_through(1);
  EXPECT_THAT(numbers(log), ElementsAre(2, 4, 6, 8)) << "before the first";
  log.drop_through(5);
  EXPECT_THAT(numbers(log), ElementsAre(6, 8));
  EXPECT_EQ(log.bytes(), 2 * (kHeadBytes + 10));
  log.drop_through(3);
  EXPECT_THAT(numbers(log), ElementsAre(6, 8)) << "late news";
  add(log, a_report(10, 5));
  log.drop_through(8);
  EXPECT_THAT(numbers(log), ElementsAre(10));
  log.drop_through(~std::uint64_t{0});
  EXPECT_TRUE(log.empty());
  EXPECT_EQ(log.bytes(), 0u);
  log.drop_through(20);
  add(log, a_report(11, 5));
  EXPECT_THAT(numbers(log), ElementsAre(11)) << "and goes on";
}

TEST(ReportLog, SpansManyChunks) {
  constexpr std::size_t kEach = ReportLog::kChunkBytes / 3;
  ReportLog log;
  std::vector<Report> reports;
  for (std::uint64_t number = 1; number <= 20; ++number) {
    reports.push_back(a_report(number, kEach));
    add(log, reports.back());
  }
  EXPECT_EQ(all(log), reports);
  log.drop_through(13);
  reports.erase(reports.begin(), reports.begin() + 13);
  EXPECT_EQ(all(log), reports);
  EXPECT_EQ(log.bytes(), bytes_of(reports));
}

TEST(ReportLog, AReportLargerThanAChunkIsKeptWhole) {
  ReportLog log;
  const std::vector<Report> reports{a_report(1, 10), a_report(2, 3 * ReportLog::kChunkBytes),
                                    a_report(3, 10)};
  for (const Report& report : reports) add(log, report);
  EXPECT_EQ(all(log), reports);
  log.drop_through(2);
  EXPECT_THAT(numbers(log), ElementsAre(3));
}

TEST(ReportLog, KeepsOnlyWhatIsToBeKept) {
  ReportLog log;
  for (std::uint64_t number = 1; number <= 6; ++number) {
    add(log, a_report(number, 10, number % 2 == 0 ? 7 : 0));
  }
  log.keep_if([](const ResultReport& report) { return report.stage == StageId{7}; });
  EXPECT_THAT(numbers(log), ElementsAre(2, 4, 6));
  EXPECT_EQ(log.bytes(), 3 * (kHeadBytes + 10));
  log.keep_if([](const ResultReport&) { return false; });
  EXPECT_TRUE(log.empty());
}

TEST(ReportLog, ClearedItIsEmpty) {
  ReportLog log;
  add(log, a_report(1, 10));
  log.clear();
  EXPECT_TRUE(log.empty());
  EXPECT_THAT(numbers(log), IsEmpty());
  add(log, a_report(2, 10));
  EXPECT_THAT(numbers(log), ElementsAre(2));
}

TEST(ReportLog, IsAListWhateverHappens) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    ReportLog log;
    std::deque<Report> model;
    std::uint64_t next = 1;
    for (int step = 0; step < 300; ++step) {
      switch (random() % 8) {
        case 0: {
          const std::uint64_t through = next - std::min<std::uint64_t>(next, random() % 40);
          log.drop_through(through);
          while (!model.empty() && model.front().number <= through) model.pop_front();
          break;
        }
        case 1:
          if (random() % 4 != 0) break;
          log.keep_if([](const ResultReport& report) { return report.stage.value != 1; });
          std::erase_if(model, [](const Report& report) { return report.stage == 1; });
          break;
        default: {
          const std::size_t bytes = random() % 20 == 0 ? 100'000 : random() % 4000;
          model.push_back(a_report(next++, bytes, static_cast<std::uint16_t>(random() % 3)));
          add(log, model.back());
        }
      }
      ASSERT_EQ(log.bytes(), bytes_of(model)) << "seed " << seed << ", step " << step;
      ASSERT_EQ(log.empty(), model.empty());
    }
    ASSERT_EQ(all(log), std::vector(model.begin(), model.end())) << "seed " << seed;
  }
}

}  // namespace
}  // namespace regroup
