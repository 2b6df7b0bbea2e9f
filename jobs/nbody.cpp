// The job `nbody`: bodies that attract each other, in steps of the leapfrog scheme (Aarseth,
// "Gravitational N-Body Simulations", 2003), every pair computed (kernels/nbody). Blocks of bodies
// are cells in a ring: copies of the blocks go round it, one hop a step of the runtime, and each
// block adds up what every copy that comes by does to it, always in the order of the ring. So the
// bits are the same for any rank count.
#include "kernels/nbody/nbody.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <numbers>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "jobs/colour_map.hpp"
#include "jobs/iterative.hpp"
#include "jobs/on_device.hpp"
#include "jobs/registry.hpp"
#include "jobs/sample_jobs.hpp"
#include "kernels/elementary/elementary.hpp"
#include "kernels/nbody/cuda.hpp"

namespace regroup {
namespace {

struct Body {
  std::array<double, 3> at{};
  std::array<double, 3> velocity{};
  double mass = 0;
};
constexpr std::size_t kBodyNumbers = sizeof(Body) / sizeof(double);

// What others see of bodies: x, y, z and mass of each, one array after the other.
class BodyCopies {
 public:
  explicit BodyCopies(std::span<const Body> bodies = {}) : numbers_(4 * bodies.size()) {
    for (std::size_t i = 0; i < bodies.size(); ++i) {
      for (std::size_t axis = 0; axis < 3; ++axis) {
        part(axis)[i] = static_cast<float>(bodies[i].at[axis]);
      }
      part(3)[i] = static_cast<float>(bodies[i].mass);
    }
  }
  explicit BodyCopies(std::vector<float> numbers) : numbers_(std::move(numbers)) {}

  // Copies that others have shown.
  void take(std::span<const float> numbers) { numbers_.assign(numbers.begin(), numbers.end()); }

  const std::vector<float>& numbers() const { return numbers_; }
  kernels::BodyPositions positions() const { return {part(0), part(1), part(2)}; }
  kernels::BodySources sources() const { return {positions(), part(3)}; }

 private:
  std::size_t count() const { return numbers_.size() / 4; }
  std::span<float> part(std::size_t which) {
    return std::span(numbers_).subspan(which * count(), count());
  }
  std::span<const float> part(std::size_t which) const {
    return std::span(numbers_).subspan(which * count(), count());
  }

  std::vector<float> numbers_;
};

// Of all bodies of a block, at a time.
struct Mechanics {
  double kinetic = 0;
  double potential = 0;  // each pair once
  std::array<double, 3> momentum{};
  std::array<double, 3> angular_momentum{};

  double energy() const { return kinetic + potential; }
  void operator+=(const Mechanics& more) {
    kinetic += more.kinetic;
    potential += more.potential;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      momentum[axis] += more.momentum[axis];
      angular_momentum[axis] += more.angular_momentum[axis];
    }
  }
};

struct BodyBlock {
  std::vector<Body> bodies;  // velocities are half a step behind, but at the beginning and the end
  BodyCopies own;            // of them
  BodyCopies visiting;       // copies that came round, of another block or this one
  Mechanics at_begin;
  Mechanics at_end;
  std::vector<double> sums;  // acceleration along x, y and z, and potential, of each body so far

  explicit BodyBlock(std::vector<Body> of = {})
      : bodies(std::move(of)), own(bodies), visiting(own), sums(4 * bodies.size()) {}

  std::span<double> sum(std::size_t which) {
    return std::span(sums).subspan(which * bodies.size(), bodies.size());
  }

  // `u64` bodies, what is known of the beginning and the end, sums, `u64` numbers of the copies and
  // these; bodies.
  void encode(Writer& writer) const {
    writer.put(static_cast<std::uint64_t>(bodies.size()));
    writer.put_raw(std::as_bytes(std::span(&at_begin, 1)));
    writer.put_raw(std::as_bytes(std::span(&at_end, 1)));
    writer.put_raw(std::as_bytes(std::span(sums)));
    writer.put(static_cast<std::uint64_t>(visiting.numbers().size()));
    writer.put_raw(std::as_bytes(std::span(visiting.numbers())));
    writer.put_raw(std::as_bytes(std::span(bodies)));
  }
  static BodyBlock decode(Reader& reader) {
    const auto count = reader.get<std::uint64_t>();
    if (reader.failed() || count > reader.rest().size() / sizeof(Body)) throw_cut_short();
    BodyBlock block{std::vector<Body>(count)};
    take(reader, std::span(&block.at_begin, 1));
    take(reader, std::span(&block.at_end, 1));
    take(reader, std::span(block.sums));
    const auto copied = reader.get<std::uint64_t>();
    if (reader.failed() || copied > reader.rest().size() / sizeof(float) || copied % 4 != 0) {
      throw_cut_short();
    }
    std::vector<float> numbers(copied);
    take(reader, std::span(numbers));
    take(reader, std::span(block.bodies));
    if (!reader.complete()) throw_cut_short();
    block.own = BodyCopies(block.bodies);
    block.visiting = BodyCopies(std::move(numbers));
    return block;
  }

 private:
  [[noreturn]] static void throw_cut_short() {
    throw std::runtime_error("a saved block of bodies is cut short");
  }
  template <class T>
  static void take(Reader& reader, std::span<T> to) {
    const auto bytes = reader.get_raw(to.size_bytes());
    if (reader.failed()) throw_cut_short();
    if (!bytes.empty()) std::memcpy(to.data(), bytes.data(), bytes.size());
  }
};

struct PixelCount {
  std::uint32_t pixel = 0;
  std::uint32_t bodies = 0;
};

struct BodyResult {
  Mechanics at_begin;
  Mechanics at_end;
  double error = 0;                // the largest distance from where a body should be
  std::vector<PixelCount> counts;  // of the picture's pixels, those that have any
  std::vector<Body> bodies;        // if they are to be in the result

  void encode(Writer& writer) const {
    writer.put_raw(std::as_bytes(std::span(&at_begin, 1)));
    writer.put_raw(std::as_bytes(std::span(&at_end, 1)));
    writer.put(error);
    writer.put_bytes(std::as_bytes(std::span(counts)));
    writer.put_bytes(std::as_bytes(std::span(bodies)));
  }
  static BodyResult decode(Reader& reader) {
    BodyResult result;
    for (Mechanics* const mechanics : {&result.at_begin, &result.at_end}) {
      const auto bytes = reader.get_raw(sizeof(Mechanics));
      if (!reader.failed()) std::memcpy(mechanics, bytes.data(), bytes.size());
    }
    result.error = reader.get<double>();
    take(reader, result.counts);
    take(reader, result.bodies);
    return result;
  }

 private:
  template <class T>
  static void take(Reader& reader, std::vector<T>& to) {
    const auto bytes = reader.get_bytes();
    if (reader.failed() || bytes.size() % sizeof(T) != 0)
      throw std::runtime_error("the result of a block of bodies is cut short");
    to.resize(bytes.size() / sizeof(T));
    if (!bytes.empty()) std::memcpy(to.data(), bytes.data(), bytes.size());
  }
};

// A body of a Plummer sphere of mass 1 and energy -1/4 in virial equilibrium, without softening
// (Aarseth, Henon and Wielen, "A comparison of numerical methods for the study of star cluster
// dynamics", 1974, appendix).
Body plummer_body(kernels::Philox random, double mass) {
  const auto direction = [&](double length) {
    const double z = 2 * random.uniform() - 1;
    const auto around = kernels::sine_cosine_of_turns(random.uniform());
    const double across = std::sqrt(1 - z * z) * length;
    return std::array{across * around.cosine, across * around.sine, z * length};
  };
  constexpr double kRadius = 3 * std::numbers::pi / 16;  // of the sphere, in these units
  constexpr double kFarthest = 20;                       // in units of that
  double radius = kFarthest;
  while (radius >= kFarthest) {
    const double enclosed = 1 - random.uniform();  // mass
    radius = 1 / std::sqrt(kernels::exponential(-2.0 / 3 * kernels::logarithm(enclosed)) - 1);
  }
  // Of the speed in units of the speed of escape.
  double speed = 0;
  double chance = 1;
  const auto density = [](double q) {
    const double rest = 1 - q * q;
    return q * q * rest * rest * rest * std::sqrt(rest);
  };
  while (chance > density(speed)) {
    speed = random.uniform();
    chance = 0.1 * random.uniform();
  }
  speed *= std::sqrt(2 / std::sqrt(1 + radius * radius)) / std::sqrt(kRadius);
  return {direction(radius * kRadius), direction(speed), mass};
}

struct Nbody {
  using Cell = BodyBlock;
  using Halo = std::span<const float>;  // copies, or nothing
  using Result = BodyResult;
  static constexpr std::string_view kName = "nbody";
  static constexpr std::string_view kSummary =
      "bodies that attract each other, every pair computed, with the drift of their energy";
  static constexpr std::string_view kDescription =
      "Steps are of the leapfrog scheme, in units in which the constant of gravitation and the "
      "mass "
      "of all bodies are 1. 'plummer' begins with a Plummer sphere in equilibrium, of energy -1/4; "
      "'polygon' with bodies that go round on a circle of radius 1, which is held against where "
      "they "
      "should be. The picture shows the bodies in the plane of x and y, with y upwards. "
      "Checkpoints "
      "have all bodies: x, y, z, their velocities (half a step behind) and mass.";

  void options(OptionSet& set) {
    set.add("bodies", count, "how many bodies there are").at_least(1).at_most(0x1p32);
    set.add("steps", steps, "time steps").at_most(0x1p40);
    set.add("time-step", time_step, "time that a step takes").at_least(1e-300).at_most(1e100);
    set.add("softening", softening, "length below which attraction does not grow further")
        .at_least(1e-10)
        .at_most(1e9);
    set.add("start", start, "where bodies are at the beginning").one_of({"plummer", "polygon"});
    set.add("blocks", blocks, "blocks that the bodies are cut into, to be shared by ranks")
        .at_least(1)
        .at_most(65'536);
  }

  std::expected<void, std::string> prepare() { return check(); }
  std::expected<void, std::string> load(Reader&) { return check(); }

  std::expected<void, std::string> check() {
    if (blocks > count) {
      return std::unexpected(
          fmt::format("--blocks: {} bodies cannot be cut into {} blocks", count, blocks));
    }
    softening_square = static_cast<float>(softening * softening);
    if (start == "polygon") {
      if (count > kPolygonMax) {
        return std::unexpected(fmt::format("--bodies: a polygon has at most {}", kPolygonMax));
      }
      polygon_speed = turning_speed();
    }
    return {};
  }

  std::uint32_t cells() const { return blocks; }
  std::vector<std::uint32_t> neighbours(std::uint32_t block) const {
    if (blocks == 1) return {};
    if (blocks == 2) return {1 - block};
    std::vector<std::uint32_t> both = {before(block), after(block)};
    std::ranges::sort(both);
    return both;
  }
  CellField field() const {
    CellField field{.field = {.name = "bodies",
                              .shape = {count, kBodyNumbers},
                              .spacing = {1, 1},
                              .origin = {0, 0}},
                    .step_time = time_step / blocks,
                    .end_time = time_step * static_cast<double>(steps)};
    for (std::uint32_t block = 0; block < blocks; ++block) {
      const std::uint64_t bodies = first_body(block + 1) - first_body(block);
      field.places.push_back({{first_body(block), 0}, {bodies, kBodyNumbers}});
    }
    return field;
  }

  Cell begin(const CellContext& cell) const {
    std::vector<Body> bodies;
    for (std::uint64_t i = first_body(cell.cell()); i < first_body(cell.cell() + 1); ++i) {
      bodies.push_back(start == "plummer" ? plummer_body(kernels::Philox(cell.seed(), i), mass())
                                          : polygon_body(i, 0));
    }
    return BodyBlock(std::move(bodies));
  }

  // At the last hop of a round everyone would get its own back.
  void show(const Cell& block, const CellContext& cell, std::uint32_t to,
            HaloRoom<float> room) const {
    if (to != after(cell.cell()) || hop(cell.step()) + 1 == blocks) return;
    const auto& numbers = block.visiting.numbers();
    std::ranges::copy(numbers, room.take(numbers.size()).begin());
  }

  // A round for each step, and one to know the energy at the end.
  bool at_end(std::uint64_t step, const void*) const { return step >= (steps + 1) * blocks; }
  std::uint64_t steps_max() const { return steps; }
  std::uint64_t steps_done(std::uint64_t step) const { return std::min(step / blocks, steps); }

  void step(Cell& block, const CellContext& cell, std::span<const Halo> halos, const void*) const {
    const std::uint64_t round = cell.step() / blocks;
    const bool ends = round == 0 || round == steps;
    add_gravity(block, ends, cell);
    if (hop(cell.step()) + 1 != blocks) {
      const auto others = neighbours(cell.cell());
      const auto from = std::ranges::find(others, before(cell.cell())) - others.begin();
      block.visiting.take(halos[static_cast<std::size_t>(from)]);
      return;
    }
    finish_round(block, round);
  }

  Result result(const Cell& block, const CellContext& cell) const {
    Result result{.at_begin = block.at_begin, .at_end = block.at_end};
    std::map<std::uint32_t, std::uint32_t> counts;
    for (const Body& body : block.bodies) {
      if (const auto pixel = pixel_of(body)) ++counts[*pixel];
    }
    for (const auto& [pixel, bodies] : counts) result.counts.push_back({pixel, bodies});
    if (count <= kBodiesInResultMax) result.bodies = block.bodies;
    if (start != "polygon") return result;
    for (std::size_t i = 0; i < block.bodies.size(); ++i) {
      const Body exact = polygon_body(first_body(cell.cell()) + i, end_time());
      const auto& at = block.bodies[i].at;
      result.error = std::max(
          result.error, std::hypot(at[0] - exact.at[0], at[1] - exact.at[1], at[2] - exact.at[2]));
    }
    return result;
  }

  void report(std::span<const Result> results, Report& report) const {
    Mechanics begin, end;
    double error = 0;
    for (const Result& block : results) {
      begin += block.at_begin;
      end += block.at_end;
      error = std::max(error, block.error);
    }
    report.value("bodies", count);
    report.value("steps", steps);
    report.value("time", end_time());
    report.value("energy", begin.energy());
    const auto ratio = [](double part, double whole) { return whole == 0 ? 0 : part / whole; };
    report.value("energy_drift", ratio(end.energy() - begin.energy(), std::abs(begin.energy())));
    report.value("virial_ratio", ratio(-2 * end.kinetic, end.potential));
    const auto change = [](const std::array<double, 3>& to, const std::array<double, 3>& from) {
      return std::hypot(to[0] - from[0], to[1] - from[1], to[2] - from[2]);
    };
    report.value("momentum_change", change(end.momentum, begin.momentum));
    report.value("angular_momentum_change", change(end.angular_momentum, begin.angular_momentum));
    if (start == "polygon") report.value("error_max", error);
    report.picture(picture(results));
    if (count > kBodiesInResultMax) return;
    std::vector<double> numbers;
    for (std::uint32_t block = 0; block < blocks; ++block) {
      const std::size_t size = (first_body(block + 1) - first_body(block)) * kBodyNumbers;
      const auto& bodies = results[block].bodies;
      if (bodies.size() * kBodyNumbers == size) {
        const auto* const first = reinterpret_cast<const double*>(bodies.data());
        numbers.insert(numbers.end(), first, first + size);
      } else {  // it was given up
        numbers.insert(numbers.end(), size, std::numeric_limits<double>::quiet_NaN());
      }
    }
    report.array("bodies", {count, kBodyNumbers}, numbers);
  }

  std::uint64_t count = 4096;
  std::uint64_t steps = 100;
  double time_step = 0.001;
  double softening = 0.01;
  std::string start = "plummer";
  std::uint32_t blocks = 8;
  float softening_square = 0;
  double polygon_speed = 0;  // angular

 private:
  static constexpr std::uint32_t kPixels = 512;  // along a side
  static constexpr std::uint64_t kBodiesInResultMax = std::uint64_t{1} << 20;
  static constexpr double kFarthest = 1e9;  // that kernels/nbody takes
  static constexpr std::uint64_t kPolygonMax = std::uint64_t{1} << 20;

  double mass() const { return 1 / static_cast<double>(count); }
  double end_time() const { return time_step * static_cast<double>(steps); }
  std::uint32_t before(std::uint32_t block) const { return (block + blocks - 1) % blocks; }
  std::uint32_t after(std::uint32_t block) const { return (block + 1) % blocks; }
  std::uint64_t hop(std::uint64_t step) const { return step % blocks; }
  // `block` may be the number of blocks.
  std::uint64_t first_body(std::uint32_t block) const {
    return count / blocks * block + std::min<std::uint64_t>(block, count % blocks);
  }

  // What the visiting bodies do to the block's own, and their potential if it is wanted.
  void add_gravity(BodyBlock& block, bool with_potential, const CellContext& cell) const {
    const auto gravity = [with_potential, count = block.bodies.size()](std::span<double> sums) {
      return kernels::Gravity{
          sums.subspan(0, count), sums.subspan(count, count), sums.subspan(2 * count, count),
          with_potential ? sums.subspan(3 * count, count) : std::span<double>()};
    };
    block.sums = on_device_or_cpu(
        cell,
        [own = block.own, visiting = block.visiting, square = softening_square, sums = block.sums,
         gravity](std::uint32_t device) mutable {
          kernels::cuda::add_gravity(device, own.positions(), visiting.sources(), square,
                                     gravity(sums));
          return std::move(sums);
        },
        [&] {
          kernels::add_gravity(block.own.positions(), block.visiting.sources(), softening_square,
                               gravity(block.sums), cell.threads());
          return std::move(block.sums);
        });
  }

  // Bodies of equal mass at the corners of a regular polygon stay there, as it turns: each is
  // pulled to the middle, by all others together, as strongly as the turn needs.
  double turning_speed() const {
    double pull = 0;
    for (std::uint64_t k = 1; k < count; ++k) {
      const double sine = kernels::sine_cosine_of_turns(0.5 * static_cast<double>(k) * mass()).sine;
      const double square = 4 * sine * sine + softening * softening;
      pull += mass() * 2 * sine * sine / (square * std::sqrt(square));
    }
    return std::sqrt(pull);
  }
  Body polygon_body(std::uint64_t number, double time) const {
    const double turns =
        static_cast<double>(number) * mass() + polygon_speed * time / (2 * std::numbers::pi);
    const auto [sine, cosine] = kernels::sine_cosine_of_turns(turns - std::floor(turns));
    return {{cosine, sine, 0}, {-polygon_speed * sine, polygon_speed * cosine, 0}, mass()};
  }

  // Where positions, velocities and sums are of one time.
  Mechanics mechanics(BodyBlock& block) const {
    Mechanics all;
    for (std::size_t i = 0; i < block.bodies.size(); ++i) {
      const auto& [at, v, m] = block.bodies[i];
      const double own = kernels::self_potential(static_cast<float>(m), softening_square);
      all.kinetic += 0.5 * m * (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
      all.potential += 0.5 * m * (block.sum(3)[i] - own);
      for (std::size_t axis = 0; axis < 3; ++axis) {
        const std::size_t next = (axis + 1) % 3, last = (axis + 2) % 3;
        all.momentum[axis] += m * v[axis];
        all.angular_momentum[axis] += m * (at[next] * v[last] - at[last] * v[next]);
      }
    }
    return all;
  }

  // All copies have come by.
  void finish_round(BodyBlock& block, std::uint64_t round) const {
    if (round == 0) block.at_begin = block.at_end = mechanics(block);
    if (steps == 0) return;
    const double kick = round == 0 || round == steps ? time_step / 2 : time_step;
    for (std::size_t i = 0; i < block.bodies.size(); ++i) {
      for (std::size_t axis = 0; axis < 3; ++axis) {
        block.bodies[i].velocity[axis] += kick * block.sum(axis)[i];
        if (round != steps) block.bodies[i].at[axis] += time_step * block.bodies[i].velocity[axis];
        if (!(std::abs(block.bodies[i].at[axis]) <= kFarthest)) {
          throw std::runtime_error(fmt::format(
              "a body is further away than {:g}: give a shorter --time-step", kFarthest));
        }
      }
    }
    if (round == steps) {
      block.at_end = mechanics(block);
      return;
    }
    block.visiting = block.own = BodyCopies(block.bodies);
    std::ranges::fill(block.sums, 0);
  }

  // Nothing: it is out of the picture.
  std::optional<std::uint32_t> pixel_of(const Body& body) const {
    const double half = start == "polygon" ? 1.25 : 2;  // of the picture's width
    const double x = (body.at[0] / half + 1) / 2 * kPixels;
    const double y = (1 - body.at[1] / half) / 2 * kPixels;
    if (!(x >= 0 && x < kPixels && y >= 0 && y < kPixels)) return std::nullopt;
    return static_cast<std::uint32_t>(y) * kPixels + static_cast<std::uint32_t>(x);
  }

  Picture picture(std::span<const Result> results) const {
    std::vector<std::uint64_t> counts(std::size_t{kPixels} * kPixels);
    for (const Result& block : results) {
      for (const PixelCount& in : block.counts) counts.at(in.pixel) += in.bodies;
    }
    const double most = static_cast<double>(std::max<std::uint64_t>(1, std::ranges::max(counts)));
    Picture picture{.name = "picture", .width = kPixels, .height = kPixels};
    for (const std::uint64_t in_pixel : counts) {
      const Colour colour = viridis(std::log1p(static_cast<double>(in_pixel)) / std::log1p(most));
      picture.pixels.insert(picture.pixels.end(), colour.begin(), colour.end());
    }
    return picture;
  }
};

}  // namespace

void add_nbody(JobRegistry& registry) {
  registry.add<Nbody>();
}

}  // namespace regroup
