// A scheduler that besides its work sends bulk transfers to other members, now and then, some in
// bursts, and hands what comes to the checker. When, to whom and how large is a pure function of
// the seed. In some runs a rank that has a transfer under way does not compute until that has left,
// as one that needs an answer would, so that a transfer that is stuck keeps the run from its end.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "scheduler/scheduler.hpp"
#include "tests/sim/bulk_checker.hpp"
#include "tests/sim/random.hpp"

namespace regroup::sim {

struct BulkOptions {
  std::uint32_t transfers = 0;  // of each rank, over the whole run
  bool waits = false;           // ranks do not compute while one of theirs has not left
};

class BulkUser : public Scheduler {
 public:
  // The time between a rank's transfers.
  static constexpr double kPauseMin = 10e3, kPauseMax = 20e6;
  // Out of the reach of kinds that are in use.
  static constexpr auto kKind = MessageKind{200};

  BulkUser(const ScheduleOptions& options, ResultSink& sink, Buffer description,
           const BulkOptions& bulk, std::uint64_t seed, RankId self, BulkChecker& checker)
      : Scheduler(options, sink, std::move(description)),
        bulk_(bulk),
        random_(seed, scatter({kStream, self.value})),
        checker_(&checker) {}

  void on_view(Context& context) override;
  void on_tick(Context& context) override;
  void on_work_wanted(Context& context) override;
  void on_bulk(Context& context, RankId from, MessageKind kind, std::span<const std::byte> header,
               Buffer bytes, const BulkHash& hash) override;

 private:
  static constexpr std::uint64_t kStream = 0x75736572;

  std::size_t draw_size();
  void send(Context& context);

  BulkOptions bulk_;
  Random random_;
  BulkChecker* checker_;
  Nanoseconds next_at_ = 0;
  std::uint32_t sent_ = 0;
  std::vector<std::shared_ptr<const Buffer>> under_way_;
};

}  // namespace regroup::sim
