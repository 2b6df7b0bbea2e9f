#include "jobs/bag.hpp"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "jobs/registry.hpp"
#include "tests/jobs/error_of.hpp"
#include "tests/jobs/program_run.hpp"

namespace regroup {
namespace {

// Sums whose bits depend on the order of addition.
struct Harmonic {
  using Result = double;
  static constexpr std::string_view kName = "harmonic";
  static constexpr std::string_view kSummary = "sum of signed reciprocals";

  void options(OptionSet& set) { set.add("shards", count, "shards"); }
  std::uint64_t shards() const { return count; }
  double run(const ShardContext& shard) const {
    const auto i = static_cast<double>(shard.shard());
    return std::sin(i) * std::exp(10 * std::cos(3 * i)) + static_cast<double>(shard.seed());
  }
  static void merge(double& into, double&& next) { into += next; }
  void report(double total, Report& report) const { report.value("total", total); }

  std::uint64_t count = 1;
};

// Texts in the order of their shards; those divisible by 7 fail, with or without a std::exception.
struct Texts {
  using Result = std::string;
  static constexpr std::string_view kName = "texts";
  static constexpr std::string_view kSummary = "texts";
  static constexpr std::string_view kDescription = "More about texts.";

  std::expected<void, std::string> prepare() {
    count = 100;
    return {};
  }
  void save(Writer& writer) const { writer.put(count); }
  std::expected<void, std::string> load(Reader& reader) {
    count = reader.get<std::uint64_t>();
    if (count == 0) return std::unexpected("no texts");
    return {};
  }
  std::uint64_t shards() const { return count; }
  std::string run(const ShardContext& shard) const {
    if (shard.shard() % 14 == 0) throw 14;
    if (shard.shard() % 7 == 0) throw std::runtime_error("shard " + std::to_string(shard.shard()));
    return std::string(shard.shard() % 3, 'x') + std::to_string(shard.shard()) + ",";
  }
  void report(const std::string& total, Report& report) const { report.value("total", total); }

  std::uint64_t count = 0;
};

static_assert(BagJob<Harmonic> && BagJob<Texts>);

template <class Job>
std::unique_ptr<Program> make_bag() {
  return std::make_unique<Bag<Job>>();
}

// What OrderedMerge promises: left to right within blocks, and the blocks likewise.
double serial_harmonic(std::uint64_t count, std::uint64_t seed) {
  constexpr std::uint64_t kBlock = OrderedMerge<double, std::plus<>>::kBlockShards;
  const RankResources resources;
  const Harmonic job;
  double total = 0;
  for (std::uint64_t block = 0; block < count; block += kBlock) {
    double sum = 0;
    for (std::uint64_t i = block; i < std::min(count, block + kBlock); ++i) {
      const double value = job.run(ShardContext(ShardId{i}, Attempt{1}, seed, resources));
      sum = i == block ? value : sum + value;
    }
    total = block == 0 ? sum : total + sum;
  }
  return total;
}

TEST(Bag, ResultIsTheSerialOneBitForBit) {
  constexpr std::uint64_t kShards = 2500;
  const double serial = serial_harmonic(kShards, 9);
  for (std::uint32_t ranks : {1u, 2u, 5u}) {
    for (std::uint64_t order = 0; order < 5; ++order) {
      ProgramRun run(make_bag<Harmonic>, {{"shards", std::to_string(kShards)}}, {},
                     {.ranks = ranks, .order_seed = order, .seed = 9});
      const ReportPicture picture = run.run();
      ASSERT_EQ(picture.values.size(), 1u);
      EXPECT_EQ(picture.values[0].value, ResultValue(serial)) << ranks << " ranks, order " << order;
    }
  }
}

TEST(Bag, FailedShardsAreNamedAndTheOthersKeepTheirOrder) {
  std::string expected;
  for (int i = 0; i < 100; ++i) {
    if (i % 7 != 0) expected += std::string(i % 3, 'x') + std::to_string(i) + ",";
  }
  ProgramRun run(make_bag<Texts>, {}, {}, {.ranks = 3, .order_seed = 4});

  const ReportPicture picture = run.run();

  EXPECT_EQ(picture.values.at(0).value, ResultValue(expected));
  std::map<std::uint64_t, std::string> failures;
  for (const ShardFailure& failure : run.failures()) failures[failure.shard.value] = failure.what;
  EXPECT_EQ(failures.size(), 15u);
  EXPECT_EQ(failures[49], "shard 49");
  EXPECT_EQ(failures[14], "threw something that is no std::exception");
}

TEST(Bag, WithoutShardsTheResultIsEmpty) {
  ProgramRun run(make_bag<Harmonic>, {{"shards", "0"}}, {}, {.ranks = 2});
  EXPECT_EQ(run.run().values.at(0).value, ResultValue(0.0));
}

TEST(Bag, HasNoPartitions) {
  Bag<Harmonic> bag;
  EXPECT_EQ(error_of(bag.absorb({})), "a bag has no partitions");
}

TEST(Bag, TellsWhatTheJobTells) {
  Bag<Texts> texts;
  EXPECT_EQ(texts.name(), "texts");
  EXPECT_EQ(texts.description(), "More about texts.");
  Bag<Harmonic> harmonic;
  EXPECT_EQ(harmonic.summary(), "sum of signed reciprocals");
  EXPECT_EQ(harmonic.description(), "");
  EXPECT_NE(harmonic.options().find("shards"), nullptr);
}

// ---- JobExecutor, over a bag ----

class OpenedRank {
 public:
  template <class Job>
  static OpenedRank of() {
    return OpenedRank(std::make_unique<Bag<Job>>());
  }
  WorkResult execute(WorkKind kind, Buffer input = {}) {
    WorkOrder order{.kind = kind, .input = std::move(input)};
    WorkResult result;
    result.restart(order);
    executor_->execute(order, result);
    return result;
  }
  Program& program() { return *program_; }
  std::string finalize_error;
  bool finalize_throws = false;

 private:
  explicit OpenedRank(std::unique_ptr<Program> program) : program_(std::move(program)) {
    executor_ = std::make_unique<JobExecutor>(*program_, 1, RankResources{},
                                              [this]() -> std::expected<void, std::string> {
                                                if (finalize_throws) throw std::bad_alloc();
                                                if (!finalize_error.empty())
                                                  return std::unexpected(finalize_error);
                                                return {};
                                              });
  }
  OpenedRank(OpenedRank&&) = delete;

  std::unique_ptr<Program> program_;
  std::unique_ptr<JobExecutor> executor_;
};

TEST(JobExecutor, OpensWhatTheCoordinatorDescribes) {
  Bag<Texts> coordinator;
  ASSERT_EQ(error_of(coordinator.prepare()), "");
  OpenedRank rank = OpenedRank::of<Texts>();
  const WorkResult opened = rank.execute(WorkKind::kOpen, describe_job(coordinator, 5));
  EXPECT_EQ(opened.error, "");
  EXPECT_EQ(opened.stages, (std::vector<StagePlan>{{StageKind::kBag, 100}}));
}

TEST(JobExecutor, RefusesTheDescriptionOfAnotherJob) {
  Bag<Texts> coordinator;
  ASSERT_EQ(error_of(coordinator.prepare()), "");
  OpenedRank rank = OpenedRank::of<Harmonic>();
  EXPECT_EQ(rank.execute(WorkKind::kOpen, describe_job(coordinator, 5)).error,
            "the coordinator runs job 'texts', this rank 'harmonic'");
}

TEST(JobExecutor, RefusesADescriptionThatIsCutOrLonger) {
  Bag<Harmonic> coordinator;
  Buffer description = describe_job(coordinator, 5);
  for (std::size_t length = 0; length < description.size(); ++length) {
    OpenedRank rank = OpenedRank::of<Harmonic>();
    const WorkResult opened =
        rank.execute(WorkKind::kOpen, Buffer(description.view().first(length)));
    EXPECT_NE(opened.error, "") << length << " bytes";
    EXPECT_TRUE(opened.stages.empty());
  }
  Writer(description).put(std::uint8_t{0});
  OpenedRank rank = OpenedRank::of<Harmonic>();
  EXPECT_EQ(rank.execute(WorkKind::kOpen, std::move(description)).error,
            "the job's description cannot be read");
}

TEST(JobExecutor, PassesOnWhatTheJobRefuses) {
  Bag<Texts> unprepared;  // saves a count of 0
  OpenedRank rank = OpenedRank::of<Texts>();
  EXPECT_EQ(rank.execute(WorkKind::kOpen, describe_job(unprepared, 5)).error, "no texts");
  EXPECT_EQ(rank.execute(WorkKind::kAbsorb).error, "a bag has no partitions");
}

TEST(JobExecutor, FinalizeErrorsAndThrowsBecomeTheResult) {
  OpenedRank rank = OpenedRank::of<Texts>();
  EXPECT_EQ(rank.execute(WorkKind::kFinalize).error, "");
  rank.finalize_error = "disk full";
  EXPECT_EQ(rank.execute(WorkKind::kFinalize).error, "disk full");
  rank.finalize_throws = true;
  EXPECT_THAT(rank.execute(WorkKind::kFinalize).error, testing::HasSubstr("bad_alloc"));
}

// ---- JobRegistry ----

TEST(JobRegistry, MakesAJobByItsName) {
  JobRegistry registry;
  registry.add<Harmonic>().add<Texts>();
  EXPECT_EQ(registry.factories().size(), 2u);
  EXPECT_EQ(registry.make("texts")->name(), "texts");
  EXPECT_EQ(registry.make("nothing"), nullptr);
  const auto one = registry.make("harmonic");
  const auto other = registry.make("harmonic");
  ASSERT_TRUE(one->options().find("shards")->set("5").has_value());
  EXPECT_EQ(other->options().find("shards")->text(), "1") << "each has its own variables";
}

}  // namespace
}  // namespace regroup
