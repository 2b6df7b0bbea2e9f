#include "runtime/host/checkpoint_writer.hpp"

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/protocol/check.hpp"
#include "tests/host/checkpoints.hpp"

namespace regroup {
namespace {

using namespace std::chrono_literals;
using test::number;
using test::TestRun;
using testing::HasSubstr;

using Taken = CheckpointWriter::Taken;

constexpr auto kDeadline = 60s;

OwnedPart part_of(std::uint64_t checkpoint, std::uint64_t rows = 1000) {
  OwnedPart part{{.checkpoint = number(checkpoint)}, {test::state_rows(0, rows, 7)}};
  part.request.pieces = {{"shards/state", hdf5::ElementType::kUint64, 0, part.buffers[0]}};
  return part;
}

// A callback and the future it settles.
struct Awaited {
  std::shared_ptr<std::promise<WrittenPart>> promise =
      std::make_shared<std::promise<WrittenPart>>();

  CheckpointWriter::Done done() const {
    return [promise = promise](WrittenPart written) { promise->set_value(std::move(written)); };
  }
  WrittenPart get() const {
    auto future = promise->get_future();
    REGROUP_CHECK(future.wait_for(kDeadline) == std::future_status::ready, "the writer answers");
    return future.get();
  }
};

TEST(CheckpointWriter, WritesAndGivesTheBuffersBack) {
  const TestRun run;
  CheckpointWriter writer(run.store);
  OwnedPart part = part_of(1);
  const std::byte* const memory = part.buffers[0].data();
  const Awaited written;

  ASSERT_EQ(writer.hand_over(std::move(part), written.done()), Taken::kYes);
  WrittenPart back = written.get();

  ASSERT_TRUE(back.part) << back.part.error();
  EXPECT_GT(back.seconds, 0);
  ASSERT_EQ(back.buffers.size(), 1u);
  EXPECT_EQ(back.buffers[0].data(), memory);
  ASSERT_TRUE(run.store.seal({number(1), Epoch{0}, {}, {*back.part}}, test::always));
  test::expect_valid(run.store, number(1));
}

TEST(CheckpointWriter, TellsWhatFailed) {
  const TestRun run;
  ASSERT_TRUE(run.store.write_part(part_of(1).request));
  CheckpointWriter writer(run.store);
  const Awaited written;

  ASSERT_EQ(writer.hand_over(part_of(1), written.done()), Taken::kYes);

  EXPECT_THAT(written.get().part.error(), HasSubstr("part-0000.h5"));
}

TEST(CheckpointWriter, OnePartWaitsAndTheNextIsLeftAsItWas) {
  const TestRun run;
  std::atomic<bool> held{true};
  std::promise<void> started;
  CheckpointWriter writer(run.store, [&] {
    started.set_value();
    held.wait(true);
  });
  ASSERT_EQ(started.get_future().wait_for(kDeadline), std::future_status::ready);
  EXPECT_TRUE(writer.idle());
  const Awaited written;
  OwnedPart third = part_of(3);

  EXPECT_EQ(writer.hand_over(part_of(1), written.done()), Taken::kYes);
  EXPECT_EQ(writer.hand_over(std::move(third), {}), Taken::kBusy);

  EXPECT_FALSE(writer.idle());
  EXPECT_EQ(third.buffers.size(), 1u);
  held = false;
  held.notify_one();
  EXPECT_TRUE(written.get().part);
}

TEST(CheckpointWriter, TheCallbackMayHandOverTheNext) {
  const TestRun run;
  std::optional<CheckpointWriter> writer(std::in_place, run.store);
  const Awaited second;

  writer->hand_over(part_of(1), [&](WrittenPart) {
    EXPECT_EQ(writer->hand_over(part_of(2), second.done()), Taken::kYes);
  });

  EXPECT_TRUE(second.get().part);
}

TEST(CheckpointWriter, EndsOnlyWhenAllIsWritten) {
  const TestRun run;
  {
    CheckpointWriter writer(run.store);
    writer.hand_over(part_of(1, 100'000), {});
  }
  EXPECT_TRUE(std::filesystem::exists(run.directory("000001") / "part-0000.h5"));
}

}  // namespace
}  // namespace regroup
