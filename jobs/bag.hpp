// Turns a bag-of-shards job into a Program. The job is a plain struct:
//
//   struct Pi {
//     using Result = ...;                                     // see codec.hpp for what travels
//     static constexpr std::string_view kName = "pi";
//     static constexpr std::string_view kSummary = "what it computes, in half a line";
//     static constexpr std::string_view kDescription = "More.";  // optional, for the help
//     void options(OptionSet& set);                           // optional
//     std::expected<void, std::string> prepare();             // optional: check the inputs, once
//     void save(Writer&) const;                               // optional, with load()
//     std::expected<void, std::string> load(Reader&);
//     std::uint64_t shards() const;
//     Result run(const ShardContext& shard) const;            // may throw: fails its shard
//     static void merge(Result& into, Result&& next);         // optional for strings, vectors
//     void report(const Result& total, Report& report) const;
//   };
//
// Results merge in an order that depends on shard numbers alone (ordered_merge.hpp), so `total` has
// the same bits for any rank count and schedule (I8). With every shard given up, it is Result{}.
#pragma once

#include <algorithm>
#include <concepts>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

#include "jobs/codec.hpp"
#include "jobs/program.hpp"
#include "jobs/report.hpp"
#include "scheduler/ordered_merge.hpp"

namespace regroup {

template <class Job>
concept BagJob = JobResult<typename Job::Result> &&
    requires(const Job& job, const ShardContext& shard, const typename Job::Result& total,
             Report& report) {
  { Job::kName } -> std::convertible_to<std::string_view>;
  { Job::kSummary } -> std::convertible_to<std::string_view>;
  { job.shards() } -> std::convertible_to<std::uint64_t>;
  { job.run(shard) } -> std::convertible_to<typename Job::Result>;
  job.report(total, report);
};

// The optional members of a job, with what happens without them.
template <class Job>
class JobProgram : public Program {
 public:
  JobProgram() {
    if constexpr (requires(OptionSet & set) { job_.options(set); }) job_.options(options_);
  }
  std::string_view name() const override { return Job::kName; }
  std::string_view summary() const override { return Job::kSummary; }
  std::string_view description() const override {
    if constexpr (requires { Job::kDescription; }) return Job::kDescription;
    return "";
  }
  OptionSet& options() override { return options_; }
  std::expected<void, std::string> prepare() override {
    if constexpr (requires { job_.prepare(); }) return job_.prepare();
    return {};
  }
  void save(Writer& writer) const override {
    if constexpr (requires { job_.save(writer); }) job_.save(writer);
  }
  std::expected<void, std::string> load(Reader& reader) override {
    if constexpr (requires { job_.load(reader); }) return job_.load(reader);
    return {};
  }

 protected:
  Job job_;
  OptionSet options_;
};

// Runs `compute` for a shard; what it throws becomes the shard's failure, not the rank's.
template <class Compute>
void run_shard(ShardId shard, WorkResult& result, Compute compute) {
  try {
    compute();
  } catch (const std::exception& error) {
    result.failures.push_back({shard, error.what()});
  } catch (...) {
    result.failures.push_back({shard, "threw something that is no std::exception"});
  }
}

template <BagJob Job>
class Bag : public JobProgram<Job> {
 public:
  using Result = typename Job::Result;

  std::expected<void, std::string> load(Reader& reader) override {
    auto loaded = JobProgram<Job>::load(reader);
    if (loaded) merge_.emplace(this->job_.shards());
    return loaded;
  }
  std::vector<StagePlan> stages() const override {
    return {{StageKind::kBag, this->job_.shards()}};
  }
  void run(const WorkOrder& order, std::uint64_t seed, const RankResources& resources,
           WorkResult& result) override {
    for (ShardId shard = order.shards.first; shard < order.shards.end(); ++shard.value) {
      run_shard(shard, result, [&] {
        add(shard, this->job_.run(ShardContext(shard, order.attempt, seed, resources)), result);
      });
    }
  }
  std::expected<void, std::string> absorb(const WorkOrder&) override {
    return std::unexpected("a bag has no partitions");
  }
  std::expected<void, std::string> save_partition(StageId, std::uint32_t, Buffer&) override {
    return std::unexpected("a bag has no partitions");
  }
  std::expected<void, std::string> restore_partition(StageId, std::uint32_t,
                                                     std::span<const std::byte>) override {
    return std::unexpected("a bag has no partitions");
  }
  void forget_parts() override {}
  void commit(StageId, ShardRange shards, std::uint32_t value_bytes,
              std::span<const std::byte> values) override {
    if constexpr (PlainResult<Result> && !EncodedResult<Result>) {
      REGROUP_CHECK(value_bytes == sizeof(Result), "a result of another size than its type");
      decoded_.resize(shards.count);
      std::memcpy(decoded_.data(), values.data(), values.size());
    } else {
      committed_ += shards.count;
      committed_bytes_ += values.size();
      decoded_.clear();
      for (std::uint64_t i = 0; i < shards.count; ++i) {
        decoded_.push_back(decode_result<Result>(values.subspan(i * value_bytes, value_bytes)));
      }
    }
    merge_->add(shards.first, decoded_);
  }
  void skip(StageId, ShardId shard, Attempt, RankId, const std::string&) override {
    merge_->skip(shard);
  }
  void save_state(Writer& writer) const override {
    writer.put(static_cast<std::uint8_t>(merge_.has_value()));
    if (!merge_) return;
    const std::size_t begin = writer.buffer().size();
    merge_->save(writer, ResultCodec<Result>{});
    note_saved_bytes(writer.buffer().size() - begin);
  }
  std::expected<void, std::string> load_state(Reader& reader) override {
    const auto opened = reader.get<std::uint8_t>();
    if (reader.failed() || opened > 1) return std::unexpected("the saved bag is damaged");
    if (opened == 0) {
      if (merge_) merge_.emplace(this->job_.shards());
      return {};
    }
    if (!merge_) return std::unexpected("a bag is open before it takes over another's results");
    const std::size_t begin = reader.rest().size();
    try {
      auto loaded = merge_->load(reader, ResultCodec<Result>{});
      if (loaded) note_saved_bytes(begin - reader.rest().size());
      return loaded;
    } catch (const std::exception& error) {
      return std::unexpected(std::string("a saved result cannot be decoded: ") + error.what());
    } catch (...) {
      return std::unexpected("a saved result cannot be decoded");
    }
  }
  // Of results with their own encoding nobody knows the bytes: each is taken to have as many as
  // the mean of those last saved or loaded, and before that as the mean of those committed.
  std::size_t state_bytes() const override {
    if (!merge_) return 1;
    std::uint64_t bytes_each = 1;
    if constexpr (ResultCodec<Result>::kFixedSize) {
      bytes_each = sizeof(Result);
    } else if constexpr (EncodedResult<Result>) {
      bytes_each =
          saved_bytes_each_.value_or(committed_bytes_ / std::max<std::uint64_t>(committed_, 1));
    }
    return 1 + merge_->frame_bytes() + merge_->weight() * bytes_each;
  }
  void report(Report& report) override {
    const std::optional<Result> total = merge_->finish();
    this->job_.report(total ? *total : Result{}, report);
  }

 private:
  struct Merge {
    void operator()(Result& into, Result&& next) const {
      if constexpr (requires { Job::merge(into, std::move(next)); }) {
        Job::merge(into, std::move(next));
      } else {
        static_assert(SequenceResult<Result>, "a job whose Result is no sequence needs a merge()");
        into.insert(into.end(), next.begin(), next.end());
      }
    }
  };

  void add(ShardId shard, const Result& value, WorkResult& result) {
    if constexpr (PlainResult<Result> && !EncodedResult<Result>) {
      std::memcpy(result.results.add(shard, sizeof value), &value, sizeof value);
    } else {
      encoded_.clear();
      encode_result(value, encoded_);
      if (encoded_.size() > kResultBytesMax) {
        throw std::length_error("the shard's result is larger than 512 MiB: use more shards");
      }
      std::byte* const to = result.results.add(shard, static_cast<std::uint32_t>(encoded_.size()));
      if (!encoded_.empty()) std::memcpy(to, encoded_.data(), encoded_.size());
    }
  }

  void note_saved_bytes(std::size_t bytes) const {
    if (merge_->weight() == 0) return;
    const std::size_t frame = std::min(bytes, merge_->frame_bytes());
    saved_bytes_each_ = (bytes - frame) / merge_->weight();
  }

  // What a value adds to state_bytes(): a sequence its bytes and length, others one of equal parts.
  struct Weight {
    std::uint64_t operator()(const Result& value) const {
      if constexpr (SequenceResult<Result> && !EncodedResult<Result>) {
        return sizeof(std::uint64_t) + value.size() * sizeof(value[0]);
      } else {
        return 1;
      }
    }
  };

  static constexpr std::size_t kResultBytesMax = std::size_t{512} << 20;

  std::optional<OrderedMerge<Result, Merge, Weight>> merge_;
  std::vector<Result> decoded_;
  std::uint64_t committed_ = 0;  // of results that are not plain
  std::uint64_t committed_bytes_ = 0;
  mutable std::optional<std::uint64_t> saved_bytes_each_;
  Buffer encoded_;
};

}  // namespace regroup
