#include "runtime/host/device_guard.hpp"

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace regroup {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Answer = std::expected<int, std::string>;

// For a call that comes back at once, on a machine that is busy.
constexpr Nanoseconds kLongEnough = 3 * kSecond;

// A guard whose breaker's clock the test sets, and what it said.
struct Guarded {
  explicit Guarded(Nanoseconds call_timeout = 0)
      : guard({.call_timeout = call_timeout,
               .now = [this] { return now; },
               .say = [this](const std::string& line) { said.push_back(line); },
               .fault = [this] { return fault; }}) {}

  std::optional<int> run(Answer answer) {
    return guard.run([answer] { return answer; });
  }

  Nanoseconds now = 0;
  std::vector<std::string> said;
  DeviceFault fault = DeviceFault::kNone;
  DeviceGuard guard;
};

// A call that comes back when it is let go, or when the test is over.
class Latecomer {
 public:
  explicit Latecomer(int value) : value_(value) {}
  ~Latecomer() { let_go(); }

  auto call() {
    return [gone = gone_, value = value_, ended = ended_]() -> Answer {
      gone.wait();
      ended->store(true);
      return value;
    };
  }
  void let_go() {
    if (!std::exchange(let_go_, true)) go_.set_value();
  }
  bool ended() const { return ended_->load(); }

 private:
  int value_;
  bool let_go_ = false;
  std::promise<void> go_;
  std::shared_future<void> gone_ = go_.get_future().share();
  std::shared_ptr<std::atomic<bool>> ended_ = std::make_shared<std::atomic<bool>>(false);
};

template <class Condition>
bool eventually(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST(DeviceGuard, AnswersWhatTheCallReturnsFromOneOtherThread) {
  Guarded guarded;
  std::vector<std::thread::id> threads(2);
  for (std::thread::id& thread : threads) {
    auto own = std::make_shared<std::thread::id>();
    EXPECT_EQ(guarded.guard.run([own]() -> Answer {
      *own = std::this_thread::get_id();
      return 7;
    }),
              7);
    thread = *own;
  }
  EXPECT_EQ(threads[0], threads[1]);
  EXPECT_NE(threads[0], std::this_thread::get_id());
  EXPECT_EQ(guarded.guard.state(), BreakerState::kClosed);
  EXPECT_THAT(guarded.said, ElementsAre());
}

TEST(DeviceGuard, AsksNothingOfADeviceThatFailedUntilThePauseIsOver) {
  Guarded guarded;
  EXPECT_EQ(guarded.run(std::unexpected("out of memory")), std::nullopt);
  EXPECT_EQ(guarded.guard.state(), BreakerState::kOpen);
  EXPECT_EQ(guarded.run(1), std::nullopt);
  guarded.now = kSecond - 1;
  EXPECT_EQ(guarded.run(1), std::nullopt);
  EXPECT_EQ(guarded.guard.calls(), 1U);
  EXPECT_EQ(guarded.guard.failures(), 1U);
  EXPECT_THAT(guarded.said, ElementsAre("out of memory; the CPU computes in its place, and it is "
                                        "tried again after 1 s"));
}

TEST(DeviceGuard, TriesAgainAfterThePauseAndGoesOnWhereThatSucceeds) {
  Guarded guarded;
  guarded.run(std::unexpected("an error"));
  guarded.now = kSecond;
  EXPECT_EQ(guarded.run(5), 5);
  EXPECT_EQ(guarded.guard.state(), BreakerState::kClosed);
  EXPECT_EQ(guarded.run(6), 6);
  EXPECT_EQ(guarded.said.size(), 2U);
  EXPECT_EQ(guarded.said.back(), "it works again");
}

// A lost device fails every call; its failures are told once.
TEST(DeviceGuard, LeavesALostDeviceAloneForLongerEachTime) {
  Guarded guarded;
  Nanoseconds pause = kSecond;
  for (std::uint64_t failures = 1; failures < 10; ++failures) {
    EXPECT_EQ(guarded.run(std::unexpected("the device is lost")), std::nullopt);
    EXPECT_EQ(guarded.guard.failures(), failures);
    guarded.now += pause - 1;
    EXPECT_EQ(guarded.run(1), std::nullopt);
    EXPECT_EQ(guarded.guard.failures(), failures);
    guarded.now += 1;
    pause = std::min(2 * pause, 60 * kSecond);
  }
  EXPECT_EQ(guarded.said.size(), 1U);
}

TEST(DeviceGuard, TakesWhatACallThrowsForItsFailure) {
  Guarded guarded;
  EXPECT_EQ(guarded.guard.run([]() -> Answer { throw std::runtime_error("no room"); }),
            std::nullopt);
  EXPECT_THAT(guarded.said.front(), HasSubstr("no room"));
  guarded.now = kSecond;
  EXPECT_EQ(guarded.guard.run([]() -> Answer { throw 5; }), std::nullopt);
  EXPECT_EQ(guarded.guard.state(), BreakerState::kOpen);
}

TEST(DeviceGuard, GivesUpACallThatIsLateAndDropsItsAnswer) {
  Latecomer late(1);
  Guarded guarded(kMillisecond);
  EXPECT_EQ(guarded.guard.run(late.call()), std::nullopt);
  EXPECT_EQ(guarded.guard.state(), BreakerState::kOpen);
  EXPECT_TRUE(guarded.guard.hangs());
  EXPECT_THAT(guarded.said.front(), HasSubstr("a call has not come back for 0.001 s"));
  late.let_go();
  EXPECT_TRUE(eventually([&] { return !guarded.guard.hangs(); }));
  EXPECT_TRUE(late.ended());
  EXPECT_EQ(guarded.guard.state(), BreakerState::kOpen);
}

// Whatever the breaker says: each call more that hangs would hold up the run, and keep its memory.
TEST(DeviceGuard, AsksNothingOfADeviceThatHangsUntilItsCallIsBack) {
  Latecomer late(1);
  Guarded guarded(kLongEnough);
  EXPECT_EQ(guarded.guard.run(late.call()), std::nullopt);
  EXPECT_THAT(guarded.said.front(), HasSubstr("when the call has come back"));
  guarded.now = 100 * kSecond;
  EXPECT_FALSE(guarded.guard.is_ready());
  EXPECT_EQ(guarded.run(2), std::nullopt);
  EXPECT_EQ(guarded.guard.calls(), 1U);
  late.let_go();
  EXPECT_TRUE(eventually([&] { return guarded.guard.is_ready(); }));
  EXPECT_EQ(guarded.run(2), 2);
  EXPECT_EQ(guarded.guard.state(), BreakerState::kClosed);
}

TEST(DeviceGuard, EndsThoughACallHangs) {
  Latecomer late(1);
  {
    Guarded guarded(kMillisecond);
    EXPECT_EQ(guarded.guard.run(late.call()), std::nullopt);
  }
  EXPECT_FALSE(late.ended());
  late.let_go();
  EXPECT_TRUE(eventually([&] { return late.ended(); }));
}

TEST(DeviceGuard, FailsAsARehearsalWantsItBeforeTheCallIsMade) {
  Guarded guarded(kLongEnough);
  auto called = std::make_shared<std::atomic<int>>(0);
  const auto call = [called]() -> Answer { return ++*called; };
  guarded.fault = DeviceFault::kError;
  EXPECT_EQ(guarded.guard.run(call), std::nullopt);
  guarded.now = kSecond;
  guarded.fault = DeviceFault::kHang;
  EXPECT_EQ(guarded.guard.run(call), std::nullopt);
  EXPECT_TRUE(guarded.guard.hangs());
  EXPECT_EQ(called->load(), 0);
}

TEST(DeviceGuard, SaysWhetherItWouldMakeACall) {
  Guarded guarded;
  EXPECT_TRUE(guarded.guard.is_ready());
  guarded.run(std::unexpected("an error"));
  EXPECT_FALSE(guarded.guard.is_ready());
  guarded.now = kSecond;
  EXPECT_TRUE(guarded.guard.is_ready());
  EXPECT_EQ(guarded.guard.calls(), 1U);
}

// As a job does: whatever becomes of the device, each shard counts once, with the same value.
TEST(DeviceGuard, LeavesEachShardWithOneResult) {
  Guarded guarded(20 * kMillisecond);
  Latecomer late(0);
  int sum = 0;
  for (int shard = 0; shard < 40; ++shard) {
    guarded.now += 300 * kMillisecond;
    std::optional<int> value;
    if (shard == 25) late.let_go();
    if (shard == 10) {
      value = guarded.guard.run(late.call());
    } else {
      value = guarded.run(shard % 7 == 3 ? Answer(std::unexpected("an error")) : Answer(shard));
    }
    sum += value.value_or(shard);  // the CPU
  }
  EXPECT_EQ(sum, 39 * 40 / 2);
  EXPECT_GT(guarded.guard.failures(), 1U);
  EXPECT_LT(guarded.guard.calls(), 40U);
}

}  // namespace
}  // namespace regroup
