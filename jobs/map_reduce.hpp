// Turns a map-reduce job into a Program: map shards emit (key, value) pairs, which combine on the
// way; keys are dealt to partitions, partitions to ranks by the hash ring; a reduce shard turns a
// partition into a sorted list, and the lists merge into one. The job is a plain struct:
//
//   struct WordCount {
//     using Value = std::uint64_t;                            // an EntryValue (entry_list.hpp)
//     static constexpr std::string_view kName, kSummary;
//     void options(OptionSet&); prepare(); save(); load();    // optional, as of a bag (bag.hpp)
//     std::uint64_t shards() const;
//     void map(const ShardContext& shard, auto&& emit) const; // emit(key, value); may throw
//     static void combine(Value& into, const Value& next);
//     static std::optional<Value> reduce(std::string_view key, const Value&);  // optional
//     struct Before;                                          // optional order; default: by key
//     void report(const SortedEntries<Value, Before>& entries, Report& report) const;
//   };
//
// The number of partitions never depends on the rank count, and values combine in an order that
// depends on shard numbers alone unless they are integers (or kExactCombine says that order does
// not matter), so the result has the same bits for any rank count and schedule (I8).
#pragma once

#include <algorithm>
#include <bitset>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "jobs/bag.hpp"
#include "jobs/combine_table.hpp"
#include "jobs/merge_sorted.hpp"
#include "jobs/program.hpp"
#include "jobs/report.hpp"

namespace regroup {

// All entries of a map-reduce result, in the job's order. Valid during report().
template <EntryValue Value, class Before>
class SortedEntries {
 public:
  explicit SortedEntries(std::vector<std::span<const std::byte>> lists)
      : lists_(std::move(lists)) {}

  std::uint64_t count() const {
    std::uint64_t entries = 0;
    for (const auto list : lists_) entries += EntryListReader<Value>(list).count();
    return entries;
  }
  // Calls visit(const Entry<Value>&) for each; may be called again.
  template <class Visit>
  void for_each(Visit visit) const {
    const auto merged = merge_sorted<Value>(
        lists_, Before{}, [&](const Entry<Value>& entry) -> std::expected<void, std::string> {
          visit(entry);
          return {};
        });
    REGROUP_CHECK(merged.has_value(), "a reduced partition cannot be read");
  }

 private:
  std::vector<std::span<const std::byte>> lists_;
};

namespace map_reduce_detail {
template <class Job>
struct OrderOf {
  using type = ByKey;
};
template <class Job>
requires requires {
  typename Job::Before;
}
struct OrderOf<Job> {
  using type = typename Job::Before;
};
template <class Job>
constexpr bool exact_combine() {
  if constexpr (requires { Job::kExactCombine; }) return Job::kExactCombine;
  return std::integral<typename Job::Value>;
}
}  // namespace map_reduce_detail

template <class Job>
class MapReduce : public JobProgram<Job> {
 public:
  static constexpr std::uint32_t kPartitions = 128;
  static constexpr StageId kMapStage{0};
  static constexpr StageId kReduceStage{1};

  using Value = typename Job::Value;
  using Before = typename map_reduce_detail::OrderOf<Job>::type;

  std::vector<StagePlan> stages() const override {
    return {{StageKind::kMap, this->job_.shards()}, {StageKind::kReduce, kPartitions}};
  }

  void run(const WorkOrder& order, std::uint64_t seed, const RankResources& resources,
           WorkResult& result) override {
    const ShardId shard = order.shards.first;
    run_shard(shard, result, [&] {
      if (order.stage == kMapStage) {
        map(ShardContext(shard, order.attempt, seed, resources), result);
      } else {
        reduce(shard, result);
      }
    });
  }

  std::expected<void, std::string> absorb(const WorkOrder& order) override {
    if (auto checked = check_parts(order.input.view()); !checked) return checked;
    for (Reader reader(order.input.view()); !reader.rest().empty();) {
      const auto partition = reader.get<std::uint32_t>();
      const auto list = reader.get_bytes();
      if (list.empty()) continue;
      if constexpr (kExact) {
        const auto absorbed = partitions_[partition].absorb(list);
        REGROUP_CHECK(absorbed.has_value(), "a list that was checked");
      } else {
        parts_[partition].emplace(order.shards.first, Buffer(list));
      }
    }
    return {};
  }

  // An exact one as one list, or nothing; else `u32` count, then each part as `u64` map shard and
  // its list.
  std::expected<void, std::string> save_partition(StageId, std::uint32_t partition,
                                                  Buffer& content) override {
    if constexpr (kExact) {
      const auto found = partitions_.find(partition);
      if (found != partitions_.end()) found->second.encode(std::span(&content, 1));
    } else {
      Writer writer(content);
      const auto& parts = parts_[partition];
      writer.put(static_cast<std::uint32_t>(parts.size()));
      for (const auto& [shard, list] : parts) {
        writer.put(shard);
        writer.put_bytes(list.view());
      }
    }
    return {};
  }
  std::expected<void, std::string> restore_partition(StageId, std::uint32_t partition,
                                                     std::span<const std::byte> content) override {
    if (partition >= kPartitions) return std::unexpected("there is no such partition");
    if constexpr (kExact) {
      if (content.empty()) return {};
      return partitions_[partition].absorb(content);
    } else {
      Reader reader(content);
      std::map<ShardId, Buffer> parts;
      for (std::size_t left = reader.get_count(kSavedPartBytesMin); left != 0; --left) {
        const auto shard = reader.get<ShardId>();
        const auto list = reader.get_bytes();
        if (auto checked = Table::check_list(list); !checked) return checked;
        parts.emplace(shard, Buffer(list));
      }
      if (!reader.complete()) return std::unexpected("a saved partition is cut short");
      parts_[partition] = std::move(parts);
      return {};
    }
  }

  void forget_parts() override {
    partitions_.clear();
    parts_.clear();
  }

  void commit(StageId stage, ShardRange shards, std::uint32_t value_bytes,
              std::span<const std::byte> values) override {
    if (stage != kReduceStage) return;
    for (std::uint64_t i = 0; i < shards.count; ++i) {
      keep(shards.first.value + i, values.subspan(i * value_bytes, value_bytes));
    }
  }
  void skip(StageId, ShardId, Attempt, RankId, const std::string&) override {}

  void save_state(Writer& writer) const override {
    writer.put(static_cast<std::uint32_t>(reduced_.size()));
    for (const Reduced& reduced : reduced_) {
      writer.put(static_cast<std::uint32_t>(reduced.partition));
      writer.put_bytes(reduced.list.view());  // at most kListBytesMax
    }
  }
  std::expected<void, std::string> load_state(Reader& reader) override {
    reduced_.clear();
    reduced_bytes_ = 0;
    std::bitset<kPartitions> met;
    for (std::size_t left = reader.get_count(kSavedListBytesMin); left != 0; --left) {
      const auto partition = reader.get<std::uint32_t>();
      const auto list = reader.get_bytes();
      if (reader.failed()) break;
      if (partition >= kPartitions || met[partition]) {
        return std::unexpected("a saved partition is none, or is there twice");
      }
      met.set(partition);
      if (auto whole = check_list(list); !whole) return whole;
      keep(partition, list);
    }
    if (reader.failed()) return std::unexpected("the saved partitions are cut short");
    return {};
  }
  std::size_t state_bytes() const override { return sizeof(std::uint32_t) + reduced_bytes_; }

  void report(Report& report) override {
    std::ranges::sort(reduced_, {}, &Reduced::partition);
    std::vector<std::span<const std::byte>> lists;
    for (const Reduced& reduced : reduced_) lists.push_back(reduced.list.view());
    this->job_.report(SortedEntries<Value, Before>(std::move(lists)), report);
  }

 private:
  static constexpr bool kExact = map_reduce_detail::exact_combine<Job>();

  struct Combine {
    void operator()(Value& into, const Value& next) const { Job::combine(into, next); }
  };
  using Table = CombineTable<Value, Combine>;
  struct Reduced {
    std::uint64_t partition;
    Buffer list;
  };

  void keep(std::uint64_t partition, std::span<const std::byte> list) {
    reduced_.push_back({partition, Buffer(list)});
    reduced_bytes_ += 2 * sizeof(std::uint32_t) + list.size();
  }

  // All are taken in or none: a shard that fails is run again.
  static std::expected<void, std::string> check_parts(std::span<const std::byte> parts) {
    for (Reader reader(parts); !reader.rest().empty();) {
      const auto partition = reader.get<std::uint32_t>();
      const auto list = reader.get_bytes();
      if (reader.failed() || partition >= kPartitions) {
        return std::unexpected("parts of a partition are damaged");
      }
      if (list.empty()) continue;
      if (auto checked = Table::check_list(list); !checked) return checked;
    }
    return {};
  }

  // Whether the report will be able to merge the list.
  static std::expected<void, std::string> check_list(std::span<const std::byte> list) {
    const auto merged = merge_sorted<Value>(std::span(&list, 1), Before{}, [](const auto&) {
      return std::expected<void, std::string>();
    });
    if (!merged) return std::unexpected("a saved partition is damaged: " + merged.error());
    return {};
  }

  void map(const ShardContext& context, WorkResult& result) {
    mapped_.clear();
    this->job_.map(context,
                   [this](std::string_view key, const Value& value) { mapped_.add(key, value); });
    result.partitions.resize(mapped_.empty() ? 0 : kPartitions);
    if (!mapped_.empty()) mapped_.encode(result.partitions);
    result.results.add(context_shard(context), 0);
  }
  static ShardId context_shard(const ShardContext& context) { return ShardId{context.shard()}; }

  void reduce(ShardId partition, WorkResult& result) {
    Table& table = partitions_[static_cast<std::uint32_t>(partition.value)];
    if constexpr (!kExact) {
      table.clear();
      for (const auto& [shard, list] : parts_[static_cast<std::uint32_t>(partition.value)]) {
        const auto absorbed = table.absorb(list.view());
        REGROUP_CHECK(absorbed.has_value(), "parts of a partition are damaged");
      }
    }
    std::vector<Entry<Value>> entries;
    entries.reserve(table.size());
    table.for_each([&](std::string_view key, const Value& value) {
      if constexpr (requires { Job::reduce(key, value); }) {
        if (const std::optional<Value> kept = Job::reduce(key, value))
          entries.push_back({key, *kept});
      } else {
        entries.push_back({key, value});
      }
    });
    std::ranges::sort(entries, Before{});
    encoded_.clear();
    EntryListWriter list(encoded_, entries.size());
    for (const Entry<Value>& entry : entries) list.put(entry.key, entry.value);
    if (encoded_.size() > kListBytesMax) {
      throw std::length_error("a partition of the result is larger than 512 MiB");
    }
    std::byte* const to =
        result.results.add(partition, static_cast<std::uint32_t>(encoded_.size()));
    std::memcpy(to, encoded_.data(), encoded_.size());
  }

  static constexpr std::size_t kSavedPartBytesMin = 12;  // map shard, length
  static constexpr std::size_t kSavedListBytesMin = 12;  // partition, length, entries
  static constexpr std::size_t kListBytesMax = std::size_t{512} << 20;

  Table mapped_;                                              // of the map shard being run
  std::map<std::uint32_t, Table> partitions_;                 // those this rank owns
  std::map<std::uint32_t, std::map<ShardId, Buffer>> parts_;  // of them, when order matters
  std::vector<Reduced> reduced_;                              // coordinator
  std::size_t reduced_bytes_ = 0;                             // as save_state writes them
  Buffer encoded_;
};

}  // namespace regroup
