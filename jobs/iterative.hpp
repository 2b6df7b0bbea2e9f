// Turns a job of cells that go on step by step, such as a stencil or a solver, into a Program. The
// job is a plain struct:
//
//   struct Heat {
//     using Cell = ...;                                       // its state at a step
//     using Halo = ...;                                       // what it shows a neighbour of it
//     using Total = ...;                                      // see codec.hpp for what travels
//     using Result = ...;                                     // of a cell, at its end
//     static constexpr std::string_view kName = "heat";
//     static constexpr std::string_view kSummary = "what it computes, in half a line";
//     options(), prepare(), save(), load(), kDescription      // as in a bag, optional
//     std::uint32_t cells() const;
//     std::vector<std::uint32_t> neighbours(std::uint32_t cell) const;  // ascending, both ways
//     Cell begin(const CellContext& cell) const;              // at step 0
//     Halo show(const Cell& state, const CellContext& cell, std::uint32_t to) const;  // see below
//     bool wants_totals(std::uint64_t step) const;            // optional, with the next two
//     Total add(const Cell& state, const CellContext& cell) const;
//     static void merge(Total& into, Total&& next);
//     bool at_end(std::uint64_t step, const Total* total) const;
//     std::uint64_t steps_max() const;                        // optional: for progress displays
//     std::uint64_t steps_done(std::uint64_t step) const;     // optional: of those, at a step
//     void step(Cell& state, const CellContext& cell, std::span<const Halo> halos,
//               const Total* total) const;
//     Result result(const Cell& state, const CellContext& cell) const;
//     CellField field() const;                                // optional, see below
//     // Optional: decode() into a state that may be there already, to take its memory again; else
//     // it is as its default constructor makes it.
//     void restore(Cell& state, const CellContext& cell, Reader& reader) const;
//     void report(std::span<const Result> cells, Report& report) const;
//   };
//
// A Halo that is a std::span<const E> of plain elements is written where the job has its state into
// what is sent, and read from there, with no copy between:
//     void show(const Cell&, const CellContext&, std::uint32_t to, HaloRoom<E> room) const;
// `halos` are those of the neighbours, in their order; `total` is null at steps at which no totals
// are wanted. What a cell shows and adds must follow from its state, number and step alone: it is
// asked again when cells go back. So the results have the same bits for any rank count and whatever
// fails (I8). Whatever throws fails its cell, which goes back with all others and is tried again.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "jobs/bag.hpp"
#include "jobs/codec.hpp"
#include "jobs/program.hpp"
#include "jobs/report.hpp"

namespace regroup {

// What a job sees of the run while it computes a cell.
class CellContext {
 public:
  CellContext(std::uint32_t cell, std::uint64_t step, std::uint64_t seed,
              const RankResources& resources)
      : cell_(cell), step_(step), seed_(seed), resources_(&resources) {}

  std::uint32_t cell() const { return cell_; }
  // That the state is at; while it is taken on, that it comes from.
  std::uint64_t step() const { return step_; }
  // The run's --seed.
  std::uint64_t seed() const { return seed_; }
  // A random stream of this cell's own: depends on (seed, cell) alone.
  kernels::Philox random() const { return kernels::Philox(seed_, cell_); }
  std::uint32_t threads() const { return resources_->threads; }
  // The CUDA device of this rank; see on_device.hpp for how to use it.
  std::optional<std::uint32_t> device() const { return resources_->device; }
  DeviceGuard* device_guard() const { return resources_->device_guard; }

 private:
  std::uint32_t cell_;
  std::uint64_t step_;
  std::uint64_t seed_;
  const RankResources* resources_;
};

// Where a cell writes the elements that it shows a neighbour.
template <PlainResult Element>
class HaloRoom {
 public:
  explicit HaloRoom(Buffer& buffer) : buffer_(&buffer) {}

  // Room for so many more, which hold whatever was in memory, until the next call.
  std::span<Element> take(std::size_t count) const {
    return {reinterpret_cast<Element*>(buffer_->extend(count * sizeof(Element))), count};
  }

 private:
  Buffer* buffer_;
};

namespace iterative_detail {
// Of a halo that is elements.
template <class Halo>
struct ElementOf {
  using type = void;
};
template <PlainResult Element>
struct ElementOf<std::span<const Element>> {
  using type = Element;
  static_assert(alignof(Element) <= alignof(std::max_align_t), "as buffers are aligned");
};
struct NoTotal {
  std::uint8_t nothing = 0;
};
template <class Job>
struct TotalOf {
  using type = NoTotal;
};
template <class Job>
requires requires {
  typename Job::Total;
}
struct TotalOf<Job> {
  using type = typename Job::Total;
};
}  // namespace iterative_detail

template <class Job>
class Iterative : public JobProgram<Job> {
 public:
  static constexpr StageId kIterateStage{0};
  static constexpr StageId kReduceStage{1};

  using Cell = typename Job::Cell;
  using Halo = typename Job::Halo;
  using Result = typename Job::Result;
  using Total = typename iterative_detail::TotalOf<Job>::type;

  std::expected<void, std::string> load(Reader& reader) override {
    auto loaded = JobProgram<Job>::load(reader);
    if (loaded) results_ = std::vector<std::optional<Buffer>>(this->job_.cells());
    return loaded;
  }
  std::vector<StagePlan> stages() const override {
    return {{StageKind::kIterate, this->job_.cells()}, {StageKind::kReduce, this->job_.cells()}};
  }
  std::uint64_t steps() const override {
    if constexpr (requires { this->job_.steps_max(); }) return this->job_.steps_max();
    return 0;
  }
  std::uint64_t steps_done(std::uint64_t step) const override {
    if constexpr (requires { this->job_.steps_done(step); }) return this->job_.steps_done(step);
    return step;
  }
  std::vector<CellPlan> cells() const override {
    CellPlan plan;
    for (std::uint32_t cell = 0; cell < this->job_.cells(); ++cell) {
      plan.neighbours.push_back(this->job_.neighbours(cell));
    }
    if constexpr (kHasField) plan.field = this->job_.field();
    return {std::move(plan)};
  }

  std::expected<void, std::string> compute_cell(WorkOrder& order, std::uint64_t seed,
                                                const RankResources& resources,
                                                WorkResult& result) override {
    const auto number = static_cast<std::uint32_t>(order.shards.first.value);
    const CellContext context(number, order.step, seed, resources);
    if (order.kind == WorkKind::kStep) {
      const std::optional<Total> total = total_of(order);
      const Total* const given = total ? &*total : nullptr;
      result.at_end = this->job_.at_end(order.step, given);
      if (result.at_end) return {};
      const auto found = cells_.find(number);
      REGROUP_CHECK(found != cells_.end(), "a cell that was set out before it goes on");
      std::vector<Halo> halos;
      for (const auto& halo : order.halos) halos.push_back(halo_in(halo.bytes.view()));
      this->job_.step(found->second.state, context, std::span<const Halo>(halos), given);
      found->second.step = order.step + 1;
    } else if (order.kind == WorkKind::kRestore) {
      if (!restore(context, order)) return std::unexpected("a saved cell cannot be decoded");
    } else {
      cells_.insert_or_assign(number, Held{0, this->job_.begin(context)});
    }
    const Held& held = cells_.at(number);
    show(held.state, CellContext(number, held.step, seed, resources), order, result);
    return {};
  }

  // Cell p becomes the value of shard p.
  void run(const WorkOrder& order, std::uint64_t seed, const RankResources& resources,
           WorkResult& result) override {
    const ShardId shard = order.shards.first;
    run_shard(shard, result, [&] {
      const auto number = static_cast<std::uint32_t>(shard.value);
      encoded_.clear();
      const Held& held = cells_.at(number);
      const CellContext context(number, held.step, seed, resources);
      encode_result<Result>(this->job_.result(held.state, context), encoded_);
      if (encoded_.size() > kResultBytesMax) {
        throw std::length_error("the cell's result is larger than 512 MiB: use more cells");
      }
      std::byte* const to = result.results.add(shard, static_cast<std::uint32_t>(encoded_.size()));
      if (!encoded_.empty()) std::memcpy(to, encoded_.data(), encoded_.size());
    });
  }

  std::expected<void, std::string> absorb(const WorkOrder&) override {
    return std::unexpected("cells take in no parts");
  }
  std::expected<void, std::string> save_partition(StageId, std::uint32_t cell,
                                                  Buffer& content) override {
    const auto found = cells_.find(cell);
    if (found == cells_.end()) return std::unexpected("there is no such cell here");
    encode_result(found->second.state, content);
    return {};
  }
  std::expected<void, std::string> restore_partition(StageId, std::uint32_t,
                                                     std::span<const std::byte>) override {
    return std::unexpected("cells are set back, not restored");
  }
  void forget_parts() override { cells_.clear(); }

  void add_to_totals(StageId, Buffer& into, std::span<const std::byte> next) override {
    if constexpr (kHasTotals) {
      Total total = decode_result<Total>(into.view());
      Job::merge(total, decode_result<Total>(next));
      into.clear();
      encode_result(total, into);
    }
  }

  void commit(StageId stage, ShardRange shards, std::uint32_t value_bytes,
              std::span<const std::byte> values) override {
    if (stage != kReduceStage) return;
    for (std::uint64_t i = 0; i < shards.count; ++i) {
      keep(shards.first.value + i, values.subspan(i * value_bytes, value_bytes));
    }
  }
  void skip(StageId, ShardId, Attempt, RankId, const std::string&) override {}

  // `u32` count, then each as `u32` cell and bytes its result.
  void save_state(Writer& writer) const override {
    writer.put(static_cast<std::uint32_t>(
        std::ranges::count_if(results_, [](const auto& result) { return result.has_value(); })));
    for (std::uint32_t cell = 0; cell < results_.size(); ++cell) {
      if (!results_[cell]) continue;
      writer.put(cell);
      writer.put_bytes(results_[cell]->view());
    }
  }
  std::expected<void, std::string> load_state(Reader& reader) override {
    for (auto& result : results_) result.reset();
    result_bytes_ = 0;
    for (std::size_t left = reader.get_count(kSavedResultBytesMin); left != 0; --left) {
      const auto cell = reader.get<std::uint32_t>();
      const auto bytes = reader.get_bytes();
      if (reader.failed()) break;
      if (cell >= results_.size() || results_[cell]) {
        return std::unexpected("a saved cell's result is none, or is there twice");
      }
      if (!try_decode_result<Result>(bytes)) {
        return std::unexpected("a saved cell's result cannot be decoded");
      }
      keep(cell, bytes);
    }
    if (reader.failed()) return std::unexpected("the saved results of cells are cut short");
    return {};
  }
  std::size_t state_bytes() const override { return sizeof(std::uint32_t) + result_bytes_; }

  void report(Report& report) override {
    std::vector<Result> results;
    for (const auto& result : results_) {
      results.push_back(result ? decode_result<Result>(result->view()) : Result{});
    }
    this->job_.report(std::span<const Result>(results), report);
  }

 private:
  using HaloElement = typename iterative_detail::ElementOf<Halo>::type;
  static constexpr bool kHasElements = !std::is_void_v<HaloElement>;
  static constexpr bool kHasTotals = requires { typename Job::Total; };
  static constexpr bool kHasField = requires(const Job& job) { job.field(); };
  static constexpr std::size_t kResultBytesMax = std::size_t{512} << 20;
  static constexpr std::size_t kSavedResultBytesMin = 8;  // cell, length

  static std::optional<Total> total_of(const WorkOrder& order) {
    if (!order.totals) return std::nullopt;
    return decode_result<Total>(order.totals->view());
  }

  // A cell that goes back takes the memory that it has, where the job can do that.
  bool restore(const CellContext& context, const WorkOrder& order) {
    if constexpr (requires(Cell & state, Reader & reader) {
                    this->job_.restore(state, context, reader);
                  }) {
      Held& held = cells_.try_emplace(context.cell()).first->second;
      Reader reader(order.saved());
      this->job_.restore(held.state, context, reader);
      held.step = order.step;
      return reader.complete();
    } else {
      std::optional<Cell> state = try_decode_result<Cell>(order.saved());
      if (state) cells_.insert_or_assign(context.cell(), Held{order.step, std::move(*state)});
      return state.has_value();
    }
  }

  static Halo halo_in(std::span<const std::byte> bytes) {
    if constexpr (kHasElements) {
      if (bytes.size() % sizeof(HaloElement) != 0)
        throw std::runtime_error("a neighbour shows a part of an element");
      return {reinterpret_cast<const HaloElement*>(bytes.data()),
              bytes.size() / sizeof(HaloElement)};
    } else {
      return decode_result<Halo>(bytes);
    }
  }

  // In the memory that the neighbours' halos came in, which have been read.
  void show(const Cell& state, const CellContext& context, WorkOrder& order,
            WorkResult& result) const {
    std::size_t read = 0;
    for (const std::uint32_t other : this->job_.neighbours(context.cell())) {
      auto& halo = result.halos.emplace_back();
      halo.cell = other;
      if (read < order.halos.size()) halo.bytes = std::move(order.halos[read++].bytes);
      halo.bytes.clear();
      if constexpr (kHasElements) {
        this->job_.show(state, context, other, HaloRoom<HaloElement>(halo.bytes));
      } else {
        encode_result<Halo>(this->job_.show(state, context, other), halo.bytes);
      }
    }
    if constexpr (kHasTotals) {
      result.wants_totals = this->job_.wants_totals(context.step());
      if (result.wants_totals) {
        encode_result<Total>(this->job_.add(state, context), result.partial);
      }
    }
  }

  void keep(std::uint64_t cell, std::span<const std::byte> bytes) {
    results_[cell].emplace(bytes);
    result_bytes_ += kSavedResultBytesMin + bytes.size();
  }

  struct Held {
    std::uint64_t step = 0;
    Cell state;
  };
  std::map<std::uint32_t, Held> cells_;         // those this rank owns, and some that it owned
  std::vector<std::optional<Buffer>> results_;  // coordinator: by cell, encoded
  std::size_t result_bytes_ = 0;
  Buffer encoded_;
};

}  // namespace regroup
