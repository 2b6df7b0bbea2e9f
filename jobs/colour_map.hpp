// From a number in [0, 1] to a colour, for pictures of fields: `viridis` by Nathaniel Smith and
// Stefan van der Walt (2015, public domain: bids.github.io/colormap), in which equal steps look
// equal, to the colour-blind and in grey print too. Here it is every 17th of its 256 colours (as
// R's package viridisLite prints viridis(16)) with straight lines between: no channel is more than
// 7 of 255 off. Integers after one rounding, so the same on every machine. Pure.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace regroup {

using Colour = std::array<std::uint8_t, 3>;  // red, green, blue

// Below 0 and above 1 it is the colour of the end; of NaN that of 0.
inline Colour viridis(double value) {
  constexpr std::array<std::uint32_t, 16> knots = {
      0x440154, 0x481a6c, 0x472f7d, 0x414487, 0x39568c, 0x31688e, 0x2a788e, 0x23888e,
      0x1f988b, 0x22a884, 0x35b779, 0x54c568, 0x7ad151, 0xa5db36, 0xd2e21b, 0xfde725};
  constexpr std::uint32_t pieces = knots.size() - 1;
  constexpr std::uint32_t steps = 256;  // of a piece
  const double inside = value > 0 ? std::min(value, 1.0) : 0.0;
  const auto at = static_cast<std::uint32_t>(inside * (pieces * steps) + 0.5);
  const std::uint32_t low = std::min(at / steps, pieces - 1);
  const std::uint32_t part = at - low * steps;
  Colour colour{};
  for (std::size_t i = 0; i < colour.size(); ++i) {
    const auto channel = [&](std::uint32_t knot) { return knots[knot] >> (16 - 8 * i) & 0xff; };
    const std::uint32_t mixed = channel(low) * (steps - part) + channel(low + 1) * part;
    colour[i] = static_cast<std::uint8_t>((mixed + steps / 2) / steps);
  }
  return colour;
}

}  // namespace regroup
