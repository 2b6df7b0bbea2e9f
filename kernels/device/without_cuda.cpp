// The CUDA kernels of a build without CUDA: there is no device, and whoever calls one all the same
// is told why.
#include "kernels/device/device.hpp"
#include "kernels/mandelbrot/cuda.hpp"
#include "kernels/matrix/cuda.hpp"
#include "kernels/montecarlo/cuda.hpp"
#include "kernels/nbody/cuda.hpp"
#include "kernels/reduction/cuda.hpp"
#include "kernels/sparse/cuda.hpp"
#include "kernels/stencil/cuda.hpp"

namespace regroup::kernels::cuda {
namespace {

[[noreturn]] void fail() {
  throw DeviceError("this build has no CUDA");
}

}  // namespace

std::uint32_t device_count() {
  return 0;
}
double copy_bandwidth(std::uint32_t, std::uint64_t) {
  fail();
}

PiSums sample_pi(std::uint32_t, std::uint64_t, std::uint64_t, std::uint64_t) {
  fail();
}
PayoffSums sample_european(std::uint32_t, std::uint64_t, std::uint64_t, std::uint64_t,
                           const OptionParameters&) {
  fail();
}
PayoffSums sample_asian(std::uint32_t, std::uint64_t, std::uint64_t, std::uint64_t,
                        const OptionParameters&, std::uint32_t) {
  fail();
}

std::vector<std::uint32_t> escape_counts(std::uint32_t, std::span<const PlaneRow>, std::uint64_t,
                                         std::uint32_t) {
  fail();
}

void add_gravity(std::uint32_t, const BodyPositions&, const BodySources&, float, const Gravity&) {
  fail();
}

const char* product_name() {
  fail();
}
void add_product(std::uint32_t, const ConstMatrix&, const ConstMatrix&, const Matrix&) {
  fail();
}
double time_product(std::uint32_t, std::size_t) {
  fail();
}

StencilBlock::StencilBlock(std::uint32_t, const StencilShape&, std::span<const double>) {
  fail();
}
void StencilBlock::write(const StencilRegion&, std::span<const double>) {
  fail();
}
void StencilBlock::read(const StencilRegion&, std::span<double>) const {
  fail();
}
void StencilBlock::read_all(std::span<double>) const {
  fail();
}
void StencilBlock::diffuse_steps(const DiffusionNumbers&, const StencilBox&, SideSet, std::size_t) {
  fail();
}

DeviceSparseMatrix::DeviceSparseMatrix(std::uint32_t, const SparseMatrix&) {
  fail();
}
void DeviceSparseMatrix::multiply(std::span<const double>, std::span<double>) {
  fail();
}

DeviceVector::DeviceVector(std::uint32_t, std::span<const double>) {
  fail();
}
void DeviceVector::add_sum(ExactSum&) const {
  fail();
}
void DeviceVector::add_dot(ExactSum&, const DeviceVector&) const {
  fail();
}

}  // namespace regroup::kernels::cuda
