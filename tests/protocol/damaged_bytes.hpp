// Damaged copies of good bytes, for tests of what reads foreign input: cut at every length, with
// bits flipped, and with bytes that read as large numbers. A fixed seed gives the same copies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace regroup {

// Calls check(bytes, length_of_cut) for every proper prefix. Each is a block of its own on the
// heap, so that a sanitizer sees a read past its end.
template <class Check>
void for_each_cut(std::span<const std::byte> good, Check check) {
  for (std::size_t length = 0; length < good.size(); ++length) {
    const std::vector<std::byte> cut(good.begin(),
                                     good.begin() + static_cast<std::ptrdiff_t>(length));
    check(std::span<const std::byte>(cut), length);
  }
}

// Calls check(bytes) for `copies` copies that are as long, each damaged in one to three places.
template <class Check>
void for_each_damage(std::span<const std::byte> good, std::uint64_t seed, int copies, Check check) {
  std::mt19937_64 random(seed);
  if (good.empty()) return;
  for (int copy = 0; copy < copies; ++copy) {
    std::vector<std::byte> bytes(good.begin(), good.end());
    for (auto places = 1 + random() % 3; places != 0; --places) {
      std::byte& byte = bytes[random() % bytes.size()];
      switch (random() % 4) {
        case 0:
          byte = std::byte{0xff};
          break;
        case 1:
          byte = std::byte{0};
          break;
        default:
          byte ^= std::byte{1} << random() % 8;
      }
    }
    check(std::span<const std::byte>(bytes));
  }
}

}  // namespace regroup
