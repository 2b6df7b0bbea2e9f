// Hands a sequence of commits and skips to a sink, and at every point of it has a fresh sink of the
// same job take over what was saved: both must go on to the same state and report, bit for bit.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "jobs/codec.hpp"
#include "jobs/program.hpp"
#include "tests/jobs/program_run.hpp"
#include "tests/protocol/damaged_bytes.hpp"

namespace regroup {

struct HandedOver {
  StageId stage;
  ShardRange shards;
  std::uint32_t value_bytes = 0;
  Buffer values;
  std::string skipped_because;  // a skip of the first shard, unless empty
};

inline void hand_over(ResultSink& sink, const HandedOver& one) {
  if (one.skipped_because.empty()) {
    sink.commit(one.stage, one.shards, one.value_bytes, one.values.view());
  } else {
    sink.skip(one.stage, one.shards.first, Attempt{3}, RankId{1}, one.skipped_because);
  }
}

// The values of a bag's shards as they would arrive: in shuffled batches of up to four shards of
// values of one size, and every tenth shard skipped.
template <class Result>
std::vector<HandedOver> arrivals_of(const std::vector<Result>& values, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<HandedOver> all;
  for (std::uint64_t shard = 0; shard < values.size(); ++shard) {
    if (random() % 10 == 0) {
      all.push_back({.shards = {ShardId{shard}, 1}, .skipped_because = "it threw"});
      continue;
    }
    Buffer bytes;
    encode_result(values[shard], bytes);
    const auto size = static_cast<std::uint32_t>(bytes.size());
    const bool joins = !all.empty() && all.back().skipped_because.empty() &&
                       all.back().value_bytes == size &&
                       all.back().shards.end() == ShardId{shard} && random() % 4 != 0;
    if (!joins) all.push_back({.shards = {ShardId{shard}, 0}, .value_bytes = size});
    ++all.back().shards.count;
    all.back().values.append(bytes.view());
  }
  std::ranges::shuffle(all, random);
  return all;
}

inline Buffer state_of(const ResultSink& sink) {
  Buffer bytes;
  Writer writer(bytes);
  sink.save_state(writer);
  return bytes;
}

// "" if the bytes were loaded, and no more were there.
inline std::string error_of_load(ResultSink& sink, std::span<const std::byte> bytes) {
  Reader reader(bytes);
  const auto loaded = sink.load_state(reader);
  if (!loaded) return loaded.error();
  return reader.complete() ? "" : "bytes are left over";
}

// A program as it is once the job is open.
inline std::unique_ptr<Program> opened(std::unique_ptr<Program> program) {
  const auto prepared = program->prepare();
  EXPECT_TRUE(prepared) << prepared.error();
  Buffer bytes;
  Writer writer(bytes);
  program->save(writer);
  Reader reader(bytes.view());
  const auto loaded = program->load(reader);
  EXPECT_TRUE(loaded) << loaded.error();
  return program;
}

inline void expect_takeover_at_every_point(
    const std::function<std::unique_ptr<Program>()>& make_opened,
    const std::vector<HandedOver>& arrivals) {
  const auto first = make_opened();
  std::vector<std::unique_ptr<Program>> successors;
  for (std::size_t at = 0;; ++at) {
    const Buffer bytes = state_of(*first);
    successors.push_back(make_opened());
    ASSERT_EQ(error_of_load(*successors.back(), bytes.view()), "");
    ASSERT_TRUE(std::ranges::equal(state_of(*successors.back()).view(), bytes.view()));
    if (at == arrivals.size()) break;
    hand_over(*first, arrivals[at]);
    for (auto& successor : successors) hand_over(*successor, arrivals[at]);
  }
  const Buffer last = state_of(*first);
  const ReportPicture picture = report_of(*first);
  for (std::size_t at = 0; at < successors.size(); ++at) {
    ASSERT_TRUE(std::ranges::equal(state_of(*successors[at]).view(), last.view())) << at;
    ASSERT_TRUE(at % 8 != 0 || report_of(*successors[at]) == picture) << "taken over at " << at;
  }
}

// Cut or damaged state is refused or becomes a state like any other.
inline void expect_damage_is_harmless(const std::function<std::unique_ptr<Program>()>& make_opened,
                                      const std::vector<HandedOver>& arrivals) {
  for (const std::size_t share : {4, 2, 1}) {
    const auto program = make_opened();
    for (std::size_t i = 0; i < arrivals.size() / share; ++i) hand_over(*program, arrivals[i]);
    const Buffer good = state_of(*program);
    for_each_cut(good.view(), [&](std::span<const std::byte> bytes, std::size_t length) {
      EXPECT_NE(error_of_load(*program, bytes), "") << "cut to " << length << " bytes";
    });
    for_each_damage(good.view(), share, 300, [&](std::span<const std::byte> bytes) {
      const auto fresh = make_opened();
      if (error_of_load(*fresh, bytes) != "") return;
      EXPECT_EQ(error_of_load(*make_opened(), state_of(*fresh).view()), "");
    });
    EXPECT_EQ(error_of_load(*program, good.view()), "") << "usable again after failed loads";
    EXPECT_TRUE(std::ranges::equal(state_of(*program).view(), good.view()));
  }
}

}  // namespace regroup
