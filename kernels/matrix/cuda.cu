// The product by cuBLAS; without it by tiles in shared memory, which add the terms of an element
// one after the other, each fused.
#include <algorithm>
#include <vector>

#include "kernels/device/cuda_call.cuh"
#include "kernels/matrix/contract.hpp"
#include "kernels/matrix/cuda.hpp"

#ifdef REGROUP_CUBLAS
#include <map>

#include <cublas_v2.h>
#endif

namespace regroup::kernels::cuda {
namespace {

// Matrices in the device's memory, row after row.
struct Product {
  const double* a;
  const double* b;
  double* c;
  std::size_t rows;
  std::size_t columns;
  std::size_t inner;
};

#ifdef REGROUP_CUBLAS

void check_blas(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw DeviceError(std::string(what) + ": " + cublasGetStatusName(status));
}

// Of the device in use. cuBLAS takes long to begin, so a thread keeps what it has begun. It never
// gives it back, which might wait for a device that hangs.
class Blas {
 public:
  explicit Blas(std::uint32_t device) {
    thread_local std::map<std::uint32_t, cublasHandle_t>* const begun =
        new std::map<std::uint32_t, cublasHandle_t>;
    const auto found = begun->find(device);
    if (found != begun->end()) {
      handle_ = found->second;
    } else {
      check_blas(cublasCreate(&handle_), "cuBLAS cannot begin");
      begun->emplace(device, handle_);
    }
  }

  // cuBLAS has matrices column after column: to it these are transposed, and c' += b' a'.
  void add(const Product& product) {
    const double one = 1;
    const auto columns = static_cast<std::int64_t>(product.columns);
    const auto inner = static_cast<std::int64_t>(product.inner);
    check_blas(cublasDgemm_64(handle_, CUBLAS_OP_N, CUBLAS_OP_N, columns,
                              static_cast<std::int64_t>(product.rows), inner, &one, product.b,
                              columns, product.a, inner, &one, product.c, columns),
               "cuBLAS cannot multiply");
  }

 private:
  cublasHandle_t handle_ = nullptr;
};

#else

constexpr unsigned kTile = 16;

// A thread has an element of c, a block of threads a tile.
__global__ void add_tile(Product product) {
  __shared__ double a[kTile][kTile];
  __shared__ double b[kTile][kTile];
  const std::size_t column = std::size_t{blockIdx.x} * kTile + threadIdx.x;
  for (std::size_t first_row = std::size_t{blockIdx.y} * kTile; first_row < product.rows;
       first_row += std::size_t{gridDim.y} * kTile) {
    const std::size_t row = first_row + threadIdx.y;
    const bool has_element = row < product.rows && column < product.columns;
    double sum = has_element ? product.c[row * product.columns + column] : 0.0;
    for (std::size_t first = 0; first < product.inner; first += kTile) {
      const std::size_t k = first + threadIdx.x;
      const std::size_t l = first + threadIdx.y;
      a[threadIdx.y][threadIdx.x] =
          row < product.rows && k < product.inner ? product.a[row * product.inner + k] : 0.0;
      b[threadIdx.y][threadIdx.x] = l < product.inner && column < product.columns
                                        ? product.b[l * product.columns + column]
                                        : 0.0;
      __syncthreads();
      for (unsigned i = 0; i < kTile; ++i) sum = fma(a[threadIdx.y][i], b[i][threadIdx.x], sum);
      __syncthreads();
    }
    if (has_element) product.c[row * product.columns + column] = sum;
  }
}

class Blas {
 public:
  explicit Blas(std::uint32_t) {}

  void add(const Product& product) {
    launch(add_tile,
           dim3(blocks_for(product.columns, kTile, 0x7fff'ffff), blocks_for(product.rows, kTile)),
           dim3(kTile, kTile), product);
  }
};

#endif

// Rows one after the other.
template <class Number>
std::vector<double> packed(const MatrixOf<Number>& matrix) {
  std::vector<double> numbers(matrix.rows * matrix.columns);
  for (std::size_t i = 0; i < matrix.rows; ++i) {
    std::copy_n(matrix.numbers.begin() + static_cast<std::ptrdiff_t>(i * matrix.stride),
                matrix.columns, numbers.begin() + static_cast<std::ptrdiff_t>(i * matrix.columns));
  }
  return numbers;
}

}  // namespace

const char* product_name() {
#ifdef REGROUP_CUBLAS
  return "cuBLAS";
#else
  return "kernel";
#endif
}

void add_product(std::uint32_t device, const ConstMatrix& a, const ConstMatrix& b,
                 const Matrix& c) {
  require_product(a, b, c);
  if (c.rows == 0 || c.columns == 0 || a.columns == 0) return;
  use_device(device);
  const DeviceArray<double> left{std::span<const double>(packed(a))};
  const DeviceArray<double> right{std::span<const double>(packed(b))};
  std::vector<double> numbers = packed(c);
  DeviceArray<double> sums{std::span<const double>(numbers)};
  Blas blas(device);
  blas.add({left.data(), right.data(), sums.data(), c.rows, c.columns, a.columns});
  sums.copy_to(numbers);
  for (std::size_t i = 0; i < c.rows; ++i) {
    std::copy_n(numbers.begin() + static_cast<std::ptrdiff_t>(i * c.columns), c.columns,
                c.numbers.begin() + static_cast<std::ptrdiff_t>(i * c.stride));
  }
}

double time_product(std::uint32_t device, std::size_t rows) {
  constexpr int kTries = 5;
  use_device(device);
  DeviceArray<double> a(rows * rows);
  DeviceArray<double> b(rows * rows);
  DeviceArray<double> c(rows * rows);
  for (auto* const matrix : {&a, &b, &c}) matrix->set_zero();
  Blas blas(device);
  double best = 0;
  for (int i = 0; i < kTries; ++i) {
    const double seconds = device_seconds([&] {
      blas.add({a.data(), b.data(), c.data(), rows, rows, rows});
    });
    if (i == 1 || (i > 1 && seconds < best)) best = seconds;  // the first one is a rehearsal
  }
  return best;
}

}  // namespace regroup::kernels::cuda
