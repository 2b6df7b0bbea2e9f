// The step on each instruction set against the plain reference, to the bit; cuts into boxes and
// blocks against the whole; and both against what is known of the scheme and of the equation.
#include "kernels/stencil/stencil.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <numeric>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/random/philox.hpp"

namespace regroup::kernels {

void PrintTo(const StencilShape& shape, std::ostream* out) {
  *out << shape.nx << " x " << shape.ny << " x " << shape.nz;
}

void PrintTo(const StencilBox& box, std::ostream* out) {
  *out << "x " << box.x_begin << "-" << box.x_end << ", y " << box.y_begin << "-" << box.y_end
       << ", z " << box.z_begin << "-" << box.z_end;
}

namespace {

using Block = std::vector<double>;

constexpr double kUntouched = -77;

DiffusionNumbers numbers_for(const StencilShape& shape) {
  return {0.11, 0.17, shape.dimensions() == 3 ? 0.19 : 0.0};
}

Block random_block(const StencilShape& shape, std::uint64_t stream = 1) {
  Philox random(0x0123456789abcdef, stream);
  Block block(block_cells(shape));
  for (double& cell : block) cell = 2 * random.uniform() - 1;
  return block;
}

bool same_bits(std::span<const double> a, std::span<const double> b) {
  return std::ranges::equal(a, b, {}, std::bit_cast<std::uint64_t, double>,
                            std::bit_cast<std::uint64_t, double>);
}

// Calls f(x, y, z) for each interior cell.
template <class F>
void for_each_cell(const StencilShape& shape, F f) {
  for (std::size_t z = 0; z < shape.planes(); ++z) {
    for (std::size_t y = 0; y < shape.ny; ++y) {
      for (std::size_t x = 0; x < shape.nx; ++x) {
        f(static_cast<std::ptrdiff_t>(x), static_cast<std::ptrdiff_t>(y),
          static_cast<std::ptrdiff_t>(z));
      }
    }
  }
}

void expect_equals_reference(const StencilShape& shape, const StencilBox& box, InstructionSet set) {
  const Block in = random_block(shape);
  Block expected(in.size(), kUntouched);
  reference::diffuse(shape, numbers_for(shape), box, in, expected);
  // From an address that no register is aligned for, and two spans that differ in it.
  Block memory(in.size() + 1, kUntouched);
  const std::span out = std::span(memory).subspan(1);

  diffuse(shape, numbers_for(shape), box, in, out, set);

  EXPECT_TRUE(same_bits(out, expected))
      << testing::PrintToString(shape) << ", " << testing::PrintToString(box);
}

void step_whole(const StencilShape& shape, const DiffusionNumbers& numbers, Block& block,
                Block& next, InstructionSet set = best_instruction_set()) {
  diffuse(shape, numbers, whole_box(shape), block, next, set);
  std::swap(block, next);
}

class StencilOnEverySet : public testing::TestWithParam<InstructionSet> {};

INSTANTIATE_TEST_SUITE_P(StencilTest, StencilOnEverySet,
                         testing::ValuesIn(available_instruction_sets().begin(),
                                           available_instruction_sets().end()),
                         [](const auto& test) {
                           return std::string(instruction_set_name(test.param));
                         });

// Every length up to some registers and a bit.
TEST_P(StencilOnEverySet, RowsOfAnyLengthEqualTheReferenceToTheBit) {
  for (std::size_t nx = 1; nx <= 70; ++nx) {
    for (const std::size_t ny : {1, 2, 5}) {
      expect_equals_reference({nx, ny}, whole_box({nx, ny}), GetParam());
      for (const std::size_t nz : {1, 2, 3}) {
        expect_equals_reference({nx, ny, nz}, whole_box({nx, ny, nz}), GetParam());
      }
    }
  }
}

TEST_P(StencilOnEverySet, BoxesEqualTheReferenceAndNothingElseIsWritten) {
  for (const StencilShape shape : {StencilShape{21, 5}, StencilShape{21, 4, 4}}) {
    for (std::size_t begin = 0; begin < shape.nx; ++begin) {
      for (std::size_t end = begin; end <= shape.nx; ++end) {
        expect_equals_reference(shape, {begin, end, 1, 3, 0, 1}, GetParam());
        if (shape.dimensions() == 3) {
          expect_equals_reference(shape, {begin, end, 0, 4, 1, 4}, GetParam());
        }
      }
    }
  }
}

// Blocks so large that the step is cut into columns, along x and along y.
TEST_P(StencilOnEverySet, LargeBlocksEqualTheReference) {
  for (const StencilShape shape :
       {StencilShape{40'003, 3}, StencilShape{131, 301, 3}, StencilShape{4'501, 19, 2}}) {
    expect_equals_reference(shape, whole_box(shape), GetParam());
    expect_equals_reference(shape, inner_box(shape), GetParam());
  }
}

// Ghosts with their value in both spans, and nothing that is of any use in the rest of the second.
void expect_steps_equal_reference(const StencilShape& shape, const StencilBox& box, SideSet open,
                                  std::size_t steps, InstructionSet set, std::size_t threads = 1) {
  Block now = random_block(shape);
  Block next = now;
  for_each_cell(shape,
                [&](auto x, auto y, auto z) { next[cell_index(shape, x, y, z)] = kUntouched; });
  Block expected_now = now;
  Block expected_next = next;
  reference::diffuse_steps(shape, numbers_for(shape), box, open, steps, expected_now,
                           expected_next);

  diffuse_steps(shape, numbers_for(shape), box, open, steps, now, next, threads, set);

  const Block& end = steps % 2 == 0 ? now : next;
  const Block& expected = steps % 2 == 0 ? expected_now : expected_next;
  bool same = true;
  for_each_cell(shape, [&](auto x, auto y, auto z) {
    const auto within = [](auto at, std::size_t first, std::size_t last) {
      return static_cast<std::size_t>(at) >= first && static_cast<std::size_t>(at) < last;
    };
    if (!within(x, box.x_begin, box.x_end) || !within(y, box.y_begin, box.y_end) ||
        !within(z, box.z_begin, box.z_end)) {
      return;
    }
    const std::size_t i = cell_index(shape, x, y, z);
    same = same && same_bits({&end[i], 1}, {&expected[i], 1});
  });
  EXPECT_TRUE(same) << steps << " steps of " << testing::PrintToString(shape) << ", "
                    << testing::PrintToString(box) << ", open " << open;
}

TEST_P(StencilOnEverySet, StepsAtOnceEqualThoseOneByOne) {
  for (const std::size_t steps : {1, 2, 3, 8}) {
    for (unsigned long sides = 0; sides < 16; ++sides) {
      expect_steps_equal_reference({41, 23}, {9, 32, 8, 15, 0, 1}, sides, steps, GetParam());
    }
    for (const unsigned long sides : {0, 1, 6, 24, 32, 63}) {
      expect_steps_equal_reference({19, 20, 21}, {7, 11, 9, 12, 7, 13}, sides, steps, GetParam());
    }
    expect_steps_equal_reference({5, 6}, whole_box({5, 6}), {}, steps, GetParam());
    expect_steps_equal_reference({5, 6, 7}, whole_box({5, 6, 7}), {}, steps, GetParam());
    expect_steps_equal_reference({9, 9, 9}, {}, {}, steps, GetParam());
  }
}

// Rows shorter than the edges of a tile move in all steps.
TEST_P(StencilOnEverySet, StepsAtOnceOfNarrowBlocksEqualThoseOneByOne) {
  for (const std::size_t nx : {1, 2, 5, 16}) {
    for (const std::size_t steps : {4, 7, 20}) {
      const StencilShape shape{nx, 150, 1 + 60'000 / (nx + 2) / 150};
      expect_steps_equal_reference(shape, whole_box(shape), {}, steps, GetParam());
    }
  }
  for (const StencilShape shape : {StencilShape{2, 60'000}, StencilShape{60'000, 2},
                                   StencilShape{300, 2, 150}, StencilShape{300, 150, 2}}) {
    expect_steps_equal_reference(shape, whole_box(shape), {}, 7, GetParam());
  }
}

TEST_P(StencilOnEverySet, ThreadsShareSteps) {
  for (const std::size_t threads : {2, 3, 5}) {
    for (const std::size_t steps : {1, 2, 3, 8}) {
      for (const unsigned long sides : {0b0000, 0b1111, 0b1000}) {
        expect_steps_equal_reference({500, 200}, {9, 490, 8, 190, 0, 1}, sides, steps, GetParam(),
                                     threads);
        expect_steps_equal_reference({41, 63, 80}, {9, 32, 8, 55, 7, 72}, sides | sides << 2, steps,
                                     GetParam(), threads);
      }
      expect_steps_equal_reference({700, 9}, whole_box({700, 9}), {}, steps, GetParam(), threads);
    }
  }
}

// Planes so large that they are cut into tiles, and some that take several passes.
TEST_P(StencilOnEverySet, StepsAtOnceOfLargeBlocksEqualThoseOneByOne) {
  const auto all_but = [](const StencilShape& shape, std::size_t layers) {
    StencilBox box = whole_box(shape);
    box.x_begin += layers;
    box.x_end -= layers;
    box.y_begin += layers;
    box.y_end -= layers;
    return box;
  };
  for (const StencilShape shape :
       {StencilShape{20'003, 31}, StencilShape{120, 190, 11}, StencilShape{1'201, 45, 9}}) {
    for (const std::size_t steps : {3, 8}) {
      expect_steps_equal_reference(shape, whole_box(shape), {}, steps, GetParam());
      expect_steps_equal_reference(shape, all_but(shape, 9), 0b1111, steps, GetParam());
      expect_steps_equal_reference(shape, all_but(shape, 9), 0b0110, steps, GetParam());
    }
  }
}

TEST_P(StencilOnEverySet, ASpikeSpreadsToItsNeighbours) {
  const StencilShape shape{9, 7, 5};
  const DiffusionNumbers numbers{0.25, 0.125, 0.0625};
  Block in(block_cells(shape));
  Block out(in.size());
  in[cell_index(shape, 4, 3, 2)] = 16;

  diffuse(shape, numbers, whole_box(shape), in, out, GetParam());

  Block expected(in.size());
  expected[cell_index(shape, 4, 3, 2)] = 2;
  for (const int step : {-1, 1}) {
    expected[cell_index(shape, 4 + step, 3, 2)] = 4;
    expected[cell_index(shape, 4, 3 + step, 2)] = 2;
    expected[cell_index(shape, 4, 3, 2 + step)] = 1;
  }
  EXPECT_EQ(out, expected);
}

// The value of each side's ghosts arrives in the cells that touch them and nowhere else.
TEST_P(StencilOnEverySet, EverySideOfGhostsIsHeard) {
  for (const StencilShape shape : {StencilShape{13, 6}, StencilShape{13, 6, 4}}) {
    for (const Side side : sides(shape)) {
      Block in(block_cells(shape));
      Block out(in.size());
      fill_ghosts(shape, side, 8, in);

      diffuse(shape, {0.125, 0.125, shape.dimensions() == 3 ? 0.125 : 0}, whole_box(shape), in, out,
              GetParam());

      std::vector<double> face(face_cells(shape, side));
      pack_face(shape, out, side, face);
      EXPECT_EQ(face, std::vector<double>(face.size(), 1)) << static_cast<int>(side);
      EXPECT_EQ(std::accumulate(out.begin(), out.end(), 0.0), static_cast<double>(face.size()));
    }
  }
}

TEST_P(StencilOnEverySet, GhostsAtEdgesAndCornersAreNeverRead) {
  const StencilShape shape{13, 6, 4};
  Block in(block_cells(shape), std::numeric_limits<double>::quiet_NaN());
  Block out(in.size());
  for (const Side side : sides(shape)) fill_ghosts(shape, side, 1, in);
  for_each_cell(shape, [&](auto x, auto y, auto z) { in[cell_index(shape, x, y, z)] = 1; });

  diffuse(shape, numbers_for(shape), whole_box(shape), in, out, GetParam());

  for_each_cell(shape,
                [&](auto x, auto y, auto z) { EXPECT_EQ(out[cell_index(shape, x, y, z)], 1); });
}

// The result as it is, so that an upgrade of the compiler or of this code that changes it shows.
TEST_P(StencilOnEverySet, ResultsStayTheSameFromReleaseToRelease) {
  const StencilShape shape{37, 11, 9};
  Block block = random_block(shape);
  Block next = block;
  for (int step = 0; step < 10; ++step) {
    step_whole(shape, numbers_for(shape), block, next, GetParam());
  }

  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a, a word at a time
  for (const double cell : block) {
    hash = (hash ^ std::bit_cast<std::uint64_t>(cell)) * 0x100000001b3;
  }
  EXPECT_EQ(hash, 0xb57108f345e726b5u);
}

// A domain of blocks that exchange their faces, each computing its inner cells before the ghosts
// arrive and the rim after.
class Domain {
 public:
  Domain(const StencilShape& whole, std::array<std::vector<std::size_t>, 3> cuts)
      : whole_(whole), cuts_(std::move(cuts)) {
    for (const std::size_t z : starts(2)) {
      for (const std::size_t y : starts(1)) {
        for (const std::size_t x : starts(0)) blocks_.push_back(make_part(x, y, z));
      }
    }
  }

  // From a whole block, ghosts included.
  void load(const Block& whole) {
    for (Part& part : blocks_) {
      for_each_with_ghosts(part, [&](std::size_t mine, std::size_t theirs) {
        part.now[mine] = part.next[mine] = whole[theirs];
      });
    }
  }

  void step(const DiffusionNumbers& numbers) {
    std::size_t turn = 0;
    for (Part& part : blocks_) compute(numbers, part, inner_box(part.shape), turn++);
    for (Part& part : blocks_) exchange(part);
    for (Part& part : blocks_) {
      for (const StencilBox& box : rim_boxes(part.shape)) compute(numbers, part, box, turn++);
    }
    for (Part& part : blocks_) std::swap(part.now, part.next);
  }

  // Interior cells into a whole block.
  void store(Block& whole) const {
    for (const Part& part : blocks_) {
      for_each_cell(part.shape, [&](auto x, auto y, auto z) {
        whole[cell_index(whole_, x + signed_of(part.start[0]), y + signed_of(part.start[1]),
                         z + signed_of(part.start[2]))] = part.now[cell_index(part.shape, x, y, z)];
      });
    }
  }

 private:
  struct Part {
    StencilShape shape;
    std::array<std::size_t, 3> start;
    Block now;
    Block next;
  };

  static std::ptrdiff_t signed_of(std::size_t n) { return static_cast<std::ptrdiff_t>(n); }

  std::size_t size(int axis) const {
    return axis == 0 ? whole_.nx : axis == 1 ? whole_.ny : whole_.planes();
  }

  std::vector<std::size_t> starts(int axis) const {
    std::vector<std::size_t> starts = cuts_[static_cast<std::size_t>(axis)];
    starts.insert(starts.begin(), 0);
    return starts;
  }

  std::size_t extent(int axis, std::size_t start) const {
    for (const std::size_t cut : cuts_[static_cast<std::size_t>(axis)]) {
      if (cut > start) return cut - start;
    }
    return size(axis) - start;
  }

  Part make_part(std::size_t x, std::size_t y, std::size_t z) const {
    const StencilShape shape{extent(0, x), extent(1, y), whole_.nz == 0 ? 0 : extent(2, z)};
    return {shape, {x, y, z}, Block(block_cells(shape)), Block(block_cells(shape))};
  }

  template <class F>
  void for_each_with_ghosts(const Part& part, F f) const {
    const bool flat = whole_.nz == 0;
    for (std::ptrdiff_t z = flat ? 0 : -1; z < signed_of(part.shape.planes()) + !flat; ++z) {
      for (std::ptrdiff_t y = -1; y <= signed_of(part.shape.ny); ++y) {
        for (std::ptrdiff_t x = -1; x <= signed_of(part.shape.nx); ++x) {
          f(cell_index(part.shape, x, y, z),
            cell_index(whole_, x + signed_of(part.start[0]), y + signed_of(part.start[1]),
                       z + signed_of(part.start[2])));
        }
      }
    }
  }

  // Each call on another instruction set.
  static void compute(const DiffusionNumbers& numbers, Part& part, const StencilBox& box,
                      std::size_t turn) {
    const auto sets = available_instruction_sets();
    diffuse(part.shape, numbers, box, part.now, part.next, sets[turn % sets.size()]);
  }

  void exchange(Part& part) {
    for (const Side side : sides(part.shape)) {
      const std::size_t axis = static_cast<std::size_t>(side) / 2;
      const std::size_t extents[3] = {part.shape.nx, part.shape.ny, part.shape.planes()};
      for (const Part& other : blocks_) {
        const std::size_t other_extents[3] = {other.shape.nx, other.shape.ny, other.shape.planes()};
        const bool low = static_cast<int>(side) % 2 == 0;
        bool touches = low ? other.start[axis] + other_extents[axis] == part.start[axis]
                           : part.start[axis] + extents[axis] == other.start[axis];
        for (std::size_t i = 0; i < 3; ++i) {
          touches = touches && (i == axis || other.start[i] == part.start[i]);
        }
        if (!touches) continue;
        std::vector<double> message(face_cells(other.shape, opposite(side)));
        pack_face(other.shape, other.now, opposite(side), message);
        unpack_face(part.shape, message, side, part.now);
      }
    }
  }

  StencilShape whole_;
  std::array<std::vector<std::size_t>, 3> cuts_;
  std::vector<Part> blocks_;
};

void expect_blocks_equal_the_whole(const StencilShape& shape,
                                   std::array<std::vector<std::size_t>, 3> cuts) {
  constexpr int kSteps = 7;
  Block whole = random_block(shape);
  Block next = whole;
  Domain domain(shape, std::move(cuts));
  domain.load(whole);

  for (int step = 0; step < kSteps; ++step) {
    step_whole(shape, numbers_for(shape), whole, next);
    domain.step(numbers_for(shape));
  }

  Block joined = random_block(shape);  // for the same ghosts as the whole's
  for_each_cell(shape, [&](auto x, auto y, auto z) { joined[cell_index(shape, x, y, z)] = 0; });
  domain.store(joined);
  EXPECT_TRUE(same_bits(joined, whole)) << testing::PrintToString(shape);
}

TEST(StencilTest, BlocksThatExchangeFacesEqualTheWholeToTheBit) {
  expect_blocks_equal_the_whole({61, 23}, {{{17, 18, 40}, {11}, {}}});
  expect_blocks_equal_the_whole({61, 23}, {{{}, {1, 2, 22}, {}}});
  expect_blocks_equal_the_whole({29, 14, 11}, {{{13}, {5, 6}, {4, 10}}});
  expect_blocks_equal_the_whole({5, 4, 3}, {{{1, 2, 3, 4}, {1, 2, 3}, {1, 2}}});
}

TEST(StencilTest, TheInnerBoxAndTheRimAreAllCellsOnce) {
  for (std::size_t nx = 1; nx <= 5; ++nx) {
    for (std::size_t ny = 1; ny <= 4; ++ny) {
      for (std::size_t nz = 0; nz <= 4; ++nz) {
        const StencilShape shape{nx, ny, nz};
        Block count(block_cells(shape));
        const auto cover = [&](const StencilBox& box, double amount) {
          for_each_cell(shape, [&](std::ptrdiff_t x, std::ptrdiff_t y, std::ptrdiff_t z) {
            const auto within = [](std::ptrdiff_t i, std::size_t begin, std::size_t end) {
              return static_cast<std::size_t>(i) >= begin && static_cast<std::size_t>(i) < end;
            };
            if (within(x, box.x_begin, box.x_end) && within(y, box.y_begin, box.y_end) &&
                within(z, box.z_begin, box.z_end)) {
              count[cell_index(shape, x, y, z)] += amount;
            }
          });
        };
        cover(inner_box(shape), 100);
        for (const StencilBox& box : rim_boxes(shape)) cover(box, 1);

        for_each_cell(shape, [&](std::ptrdiff_t x, std::ptrdiff_t y, std::ptrdiff_t z) {
          const auto at_side = [](std::ptrdiff_t i, std::size_t n) {
            return i == 0 || static_cast<std::size_t>(i) + 1 == n;
          };
          const bool rim = at_side(x, nx) || at_side(y, ny) || (nz != 0 && at_side(z, nz));
          EXPECT_EQ(count[cell_index(shape, x, y, z)], rim ? 1 : 100)
              << testing::PrintToString(shape);
        });
      }
    }
  }
}

// The sine is an eigenvector of the step, whose factor is known (Morton and Mayers, section 2.7).
double sine_mode(const StencilShape& shape, std::ptrdiff_t x, std::ptrdiff_t y, std::ptrdiff_t z) {
  const auto sine = [](std::ptrdiff_t i, std::size_t n) {
    return std::sin(std::numbers::pi * static_cast<double>(i + 1) / static_cast<double>(n + 1));
  };
  return sine(x, shape.nx) * sine(y, shape.ny) * (shape.nz == 0 ? 1.0 : sine(z, shape.nz));
}

// With boundaries at 0, where the ghosts' centres are: ghosts stay as they are made.
Block sine_block(const StencilShape& shape) {
  Block block(block_cells(shape));
  for_each_cell(shape, [&](auto x, auto y, auto z) {
    block[cell_index(shape, x, y, z)] = sine_mode(shape, x, y, z);
  });
  return block;
}

TEST(StencilTest, ASineDecaysByItsFactorEachStep) {
  constexpr int kSteps = 100;
  for (const StencilShape shape : {StencilShape{19, 31}, StencilShape{19, 15, 11}}) {
    const DiffusionNumbers numbers = numbers_for(shape);
    const auto loss = [](double number, std::size_t n) {
      const double sine = std::sin(std::numbers::pi / 2 / static_cast<double>(n + 1));
      return 4 * number * sine * sine;
    };
    const double factor = 1 - loss(numbers.x, shape.nx) - loss(numbers.y, shape.ny) -
                          (shape.nz == 0 ? 0 : loss(numbers.z, shape.nz));
    Block block = sine_block(shape);
    Block next = block;

    for (int step = 0; step < kSteps; ++step) step_whole(shape, numbers, block, next);

    for_each_cell(shape, [&](auto x, auto y, auto z) {
      EXPECT_NEAR(block[cell_index(shape, x, y, z)] / std::pow(factor, kSteps),
                  sine_mode(shape, x, y, z), 1e-13);
    });
  }
}

// The largest error against exp(-d pi^2 t) sin(pi x) sin(pi y) (sin(pi z)) on the unit square or
// cube with `intervals` to a side, at t = 1/16.
double error_at_end(int dimensions, std::size_t intervals) {
  const std::size_t n = intervals - 1;
  const StencilShape shape{n, n, dimensions == 3 ? n : 0};
  const double number = 0.125;
  const std::size_t steps = intervals * intervals / 2;  // dt = number / intervals^2
  Block block = sine_block(shape);
  Block next = block;
  for (std::size_t step = 0; step < steps; ++step) {
    step_whole(shape, {number, number, dimensions == 3 ? number : 0}, block, next);
  }
  const double decay = std::exp(-dimensions * std::numbers::pi * std::numbers::pi / 16);
  double error = 0;
  for_each_cell(shape, [&](auto x, auto y, auto z) {
    error = std::max(
        error, std::abs(block[cell_index(shape, x, y, z)] - decay * sine_mode(shape, x, y, z)));
  });
  return error;
}

TEST(StencilTest, ErrorsShrinkWithTheSquareOfTheSpacing) {
  for (const int dimensions : {2, 3}) {
    const double coarse = error_at_end(dimensions, 8);
    const double middle = error_at_end(dimensions, 16);
    const double fine = error_at_end(dimensions, 32);
    EXPECT_NEAR(std::log2(coarse / middle), 2, 0.1);
    EXPECT_NEAR(std::log2(middle / fine), 2, 0.03);
  }
}

// Ghosts that equal the cells they touch let no heat through.
TEST(StencilTest, AnInsulatedBlockKeepsItsHeat) {
  for (const StencilShape shape : {StencilShape{33, 18}, StencilShape{17, 9, 8}}) {
    Block block = random_block(shape);
    Block next = block;
    const auto heat = [&] {
      double sum = 0;
      for_each_cell(shape,
                    [&](auto x, auto y, auto z) { sum += block[cell_index(shape, x, y, z)]; });
      return sum;
    };
    const double before = heat();

    for (int step = 0; step < 50; ++step) {
      for (const Side side : sides(shape)) {
        std::vector<double> face(face_cells(shape, side));
        pack_face(shape, block, side, face);
        unpack_face(shape, face, side, block);
      }
      step_whole(shape, numbers_for(shape), block, next);
    }

    EXPECT_NEAR(heat(), before, 1e-12 * static_cast<double>(block.size()));
  }
}

// At the limit of stability the fastest mode neither grows nor decays.
TEST(StencilTest, ACheckerboardFlipsAtTheLimitOfStability) {
  const StencilShape shape{8, 8};
  const DiffusionNumbers numbers{0.25, 0.25};
  ASSERT_EQ(why_invalid(shape, numbers), nullptr);
  Block in(block_cells(shape));
  Block out(in.size());
  for (std::ptrdiff_t y = -1; y <= 8; ++y) {
    for (std::ptrdiff_t x = -1; x <= 8; ++x) {
      in[cell_index(shape, x, y)] = (x + y) % 2 == 0 ? 3 : -3;
    }
  }

  diffuse(shape, numbers, whole_box(shape), in, out);

  for_each_cell(shape, [&](auto x, auto y, auto) {
    EXPECT_EQ(out[cell_index(shape, x, y)], -in[cell_index(shape, x, y)]);
  });
}

// A cell's value tells where it is; -1 is 0 in it.
double place_of(std::ptrdiff_t x, std::ptrdiff_t y, std::ptrdiff_t z) {
  return static_cast<double>((x + 1) + 100 * (y + 1) + 10'000 * (z + 1));
}

TEST(StencilTest, FacesArePackedTheFasterAxisFirst) {
  const StencilShape shape{4, 3, 2};
  Block block(block_cells(shape), kUntouched);
  for_each_cell(shape, [&](auto x, auto y, auto z) {
    block[cell_index(shape, x, y, z)] = place_of(x, y, z);
  });
  const auto packed = [&](Side side) {
    std::vector<double> face(face_cells(shape, side));
    pack_face(shape, block, side, face);
    return face;
  };

  EXPECT_EQ(packed(Side::kXLow),
            (std::vector<double>{10'101, 10'201, 10'301, 20'101, 20'201, 20'301}));
  EXPECT_EQ(packed(Side::kXHigh),
            (std::vector<double>{10'104, 10'204, 10'304, 20'104, 20'204, 20'304}));
  EXPECT_EQ(packed(Side::kYLow),
            (std::vector<double>{10'101, 10'102, 10'103, 10'104, 20'101, 20'102, 20'103, 20'104}));
  EXPECT_EQ(packed(Side::kYHigh),
            (std::vector<double>{10'301, 10'302, 10'303, 10'304, 20'301, 20'302, 20'303, 20'304}));
  EXPECT_EQ(packed(Side::kZLow),
            (std::vector<double>{10'101, 10'102, 10'103, 10'104, 10'201, 10'202, 10'203, 10'204,
                                 10'301, 10'302, 10'303, 10'304}));
  EXPECT_EQ(packed(Side::kZHigh),
            (std::vector<double>{20'101, 20'102, 20'103, 20'104, 20'201, 20'202, 20'203, 20'204,
                                 20'301, 20'302, 20'303, 20'304}));
}

TEST(StencilTest, UnpackingAndFillingWriteTheGhostsOfOneSide) {
  const StencilShape shape{4, 3, 2};
  for (const Side side : sides(shape)) {
    std::vector<double> face(face_cells(shape, side));
    std::iota(face.begin(), face.end(), 1);
    Block unpacked(block_cells(shape), kUntouched);
    Block filled = unpacked;
    Block expected = unpacked;
    Block expected_filled = unpacked;
    std::size_t next = 0;
    for_each_cell(shape, [&](std::ptrdiff_t x, std::ptrdiff_t y, std::ptrdiff_t z) {
      const std::ptrdiff_t at[3] = {x, y, z};
      const std::ptrdiff_t last[3] = {3, 2, 1};
      const int axis = static_cast<int>(side) / 2;
      const bool high = static_cast<int>(side) % 2 == 1;
      if (at[axis] != (high ? last[axis] : 0)) return;
      std::ptrdiff_t ghost[3] = {x, y, z};
      ghost[axis] += high ? 1 : -1;
      const std::size_t index = cell_index(shape, ghost[0], ghost[1], ghost[2]);
      expected[index] = face[next++];
      expected_filled[index] = 5;
    });

    unpack_face(shape, face, side, unpacked);
    fill_ghosts(shape, side, 5, filled);

    EXPECT_EQ(unpacked, expected) << static_cast<int>(side);
    EXPECT_EQ(filled, expected_filled) << static_cast<int>(side);
  }
}

TEST(StencilTest, RegionsArePackedXTheFastestAndUnpackedToWhereTheyAre) {
  const StencilShape shape{4, 3, 2};
  const Block block = random_block(shape);
  const StencilRegion region{{-1, 1, 0}, {3, 2, 3}};
  std::vector<double> packed(region.cells());
  pack(shape, block, region, packed);

  Block unpacked(block.size(), kUntouched);
  unpack(shape, packed, region, unpacked);

  Block expected(block.size(), kUntouched);
  std::vector<double> cells;
  for (std::ptrdiff_t z = 0; z <= 2; ++z) {
    for (std::ptrdiff_t y = 1; y <= 2; ++y) {
      for (std::ptrdiff_t x = -1; x <= 1; ++x) {
        cells.push_back(block[cell_index(shape, x, y, z)]);
        expected[cell_index(shape, x, y, z)] = cells.back();
      }
    }
  }
  EXPECT_EQ(packed, cells);
  EXPECT_EQ(unpacked, expected);
}

TEST(StencilTest, ABlockOfTwoDimensionsHasFourSides) {
  const StencilShape shape{4, 3};
  EXPECT_EQ(block_cells(shape), 30u);
  EXPECT_EQ(cell_index(shape, -1, -1), 0u);
  EXPECT_EQ(cell_index(shape, 4, 3), 29u);
  EXPECT_EQ(sides(shape).size(), 4u);
  EXPECT_EQ(face_cells(shape, Side::kXLow), 3u);
  EXPECT_EQ(face_cells(shape, Side::kYHigh), 4u);
  EXPECT_EQ(whole_box(shape), (StencilBox{0, 4, 0, 3, 0, 1}));
  EXPECT_EQ(sides({4, 3, 2}).size(), 6u);
  for (const Side side : kSides) EXPECT_EQ(opposite(opposite(side)), side);
  EXPECT_EQ(opposite(Side::kYLow), Side::kYHigh);
}

TEST(StencilTest, BadShapesAndNumbersAreNamed) {
  const auto reason = [](const StencilShape& shape) {
    const char* const why = why_invalid(shape);
    return std::string(why == nullptr ? "" : why);
  };
  constexpr std::size_t kHuge = std::numeric_limits<std::size_t>::max();
  EXPECT_EQ(reason({1, 1, 1}), "");
  EXPECT_EQ(reason({(std::size_t{1} << 20) - 2, (std::size_t{1} << 20) - 2}), "");
  EXPECT_TRUE(reason({0, 1, 1}).starts_with("shape"));
  EXPECT_TRUE(reason({1, 0}).starts_with("shape"));
  EXPECT_TRUE(reason({std::size_t{1} << 20, std::size_t{1} << 20}).starts_with("shape"));
  EXPECT_TRUE(reason({kHuge, 1}).starts_with("shape"));
  EXPECT_TRUE(reason({1, kHuge - 1}).starts_with("shape"));
  EXPECT_TRUE(reason({kBlockCellsMax / 2, 1, 1}).starts_with("shape"));

  const auto reason_of_numbers = [](const StencilShape& shape, const DiffusionNumbers& numbers) {
    const char* const why = why_invalid(shape, numbers);
    return std::string(why == nullptr ? "" : why);
  };
  EXPECT_EQ(reason_of_numbers({4, 4, 4}, {0.25, 0.125, 0.125}), "");
  EXPECT_TRUE(reason_of_numbers({4, 4}, {-0.1, 0.1}).contains("along x"));
  EXPECT_TRUE(reason_of_numbers({4, 4}, {0.1, std::nan("")}).contains("along y"));
  EXPECT_TRUE(reason_of_numbers({4, 4, 4}, {0.1, 0.1, -0.1}).contains("along z"));
  EXPECT_TRUE(reason_of_numbers({4, 4}, {0.1, 0.1, 0.1}).contains("two dimensions"));
  EXPECT_TRUE(reason_of_numbers({4, 4, 4}, {0.25, 0.125, 0.126}).contains("sum"));
}

TEST(StencilDeathTest, BrokenContractsEndTheProcess) {
  const StencilShape shape{4, 3};
  const DiffusionNumbers numbers = numbers_for(shape);
  Block block(block_cells(shape));
  Block next(block.size());
  std::vector<double> face(3);
  const std::span most = std::span(next).first(next.size() - 1);

  EXPECT_DEATH(diffuse(shape, numbers, whole_box(shape), block, most), "does not hold a block");
  EXPECT_DEATH(diffuse(shape, numbers, whole_box(shape), most, next), "does not hold a block");
  EXPECT_DEATH(diffuse(shape, numbers, whole_box(shape), block, block), "overlap");
  EXPECT_DEATH(diffuse(shape, numbers, {0, 5, 0, 3}, block, next), "leaves the block");
  EXPECT_DEATH(diffuse(shape, numbers, {0, 4, 0, 4}, block, next), "leaves the block");
  EXPECT_DEATH(diffuse(shape, numbers, {0, 4, 0, 3, 0, 2}, block, next), "leaves the block");
  EXPECT_DEATH(reference::diffuse(shape, numbers, {0, 5, 0, 3}, block, next), "leaves the block");
  EXPECT_DEATH(pack_face(shape, block, Side::kYLow, face), "does not hold the cells");
  EXPECT_DEATH(unpack_face(shape, face, Side::kYLow, block), "does not hold the cells");
  EXPECT_DEATH(pack_face(shape, block, Side::kXLow, std::span(block).first(3)), "overlap");
  EXPECT_DEATH(pack_face(shape, most, Side::kXLow, face), "does not hold a block");
  EXPECT_DEATH(pack(shape, block, {{-1, 0, 0}, {7, 1, 1}}, face), "region leaves the block");
  EXPECT_DEATH(unpack(shape, face, {{0, 3, 0}, {3, 2, 1}}, block), "region leaves the block");
  EXPECT_DEATH(pack(shape, block, {{0, 0, -1}, {3, 1, 1}}, face), "region leaves the block");
  EXPECT_DEATH(diffuse_steps(shape, numbers, whole_box(shape), {}, 0, block, next), "no step");
  EXPECT_DEATH(diffuse_steps(shape, numbers, whole_box(shape), 0b10, 2, block, next),
               "layers at an open side");
  EXPECT_DEATH(diffuse_steps(shape, numbers, {1, 4, 1, 3}, 0b0101, 3, block, next),
               "layers at an open side");
  EXPECT_DEATH(fill_ghosts(shape, Side::kXLow, 0, most), "does not hold a block");
  EXPECT_DEATH(fill_ghosts(shape, Side::kZLow, 0, block), "no side along z");
}

}  // namespace
}  // namespace regroup::kernels
