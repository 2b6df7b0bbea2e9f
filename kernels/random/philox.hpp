// Philox4x32-10, the counter-based random number generator of Salmon, Moraes, Dror and Shaw,
// "Parallel random numbers: as easy as 1, 2, 3" (SC11). A block of four words is a
// pure function of (seed, stream, index), so any rank can produce any part of any stream, in any
// order, and a shard's numbers depend on the seed and the shard alone. It is no cryptographic
// generator.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace regroup::kernels {

using PhiloxCounter = std::array<std::uint32_t, 4>;
using PhiloxKey = std::array<std::uint32_t, 2>;

// The paper's multipliers and the Weyl increments of its key schedule, for four 32-bit words.
inline constexpr std::uint32_t kPhiloxMultiplier0 = 0xD2511F53;
inline constexpr std::uint32_t kPhiloxMultiplier1 = 0xCD9E8D57;
inline constexpr std::uint32_t kPhiloxWeyl0 = 0x9E3779B9;
inline constexpr std::uint32_t kPhiloxWeyl1 = 0xBB67AE85;
inline constexpr int kPhiloxRounds = 10;

// One block: a bijection of the counter for each key.
constexpr PhiloxCounter philox4x32_10(PhiloxCounter counter, PhiloxKey key) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const std::uint64_t product0 = std::uint64_t{kPhiloxMultiplier0} * counter[0];
    const std::uint64_t product1 = std::uint64_t{kPhiloxMultiplier1} * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product0)};
    key[0] += kPhiloxWeyl0;
    key[1] += kPhiloxWeyl1;
  }
  return counter;
}

// The block of `stream` at `index`: counter = (index, stream), key = seed, low words first.
constexpr PhiloxCounter philox_block(std::uint64_t seed, std::uint64_t stream,
                                     std::uint64_t index) {
  return philox4x32_10(
      {static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
       static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)},
      {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
}

// One stream, word after word: a std::uniform_random_bit_generator of period 2^66. One instance
// belongs to one thread; copies go on independently from the same place.
class Philox {
 public:
  using result_type = std::uint32_t;

  constexpr Philox(std::uint64_t seed, std::uint64_t stream) : seed_(seed), stream_(stream) {}

  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return std::numeric_limits<result_type>::max(); }

  constexpr result_type operator()() {
    if (used_ == block_.size()) {
      block_ = philox_block(seed_, stream_, index_++);
      used_ = 0;
    }
    return block_[used_++];
  }

  // Uniform in [0, 1), a multiple of 2^-53. Takes two words: the second one gives the upper 32
  // bits.
  constexpr double uniform() {
    const std::uint64_t low = (*this)();
    const std::uint64_t high = (*this)();
    return static_cast<double>((high << 32 | low) >> 11) * 0x1p-53;
  }

  // Goes to the first word of the block at `index`, forwards or backwards, at no cost.
  constexpr void seek(std::uint64_t index) {
    index_ = index;
    used_ = block_.size();
  }

 private:
  std::uint64_t seed_;
  std::uint64_t stream_;
  std::uint64_t index_ = 0;  // of the next block to be made
  PhiloxCounter block_{};
  std::size_t used_ = block_.size();  // words of block_ already handed out
};

}  // namespace regroup::kernels
