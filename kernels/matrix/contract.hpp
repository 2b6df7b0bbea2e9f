// What callers of a product owe it, checked at each call and in production too. Private to this
// folder.
#pragma once

#include "kernels/matrix/product.hpp"

namespace regroup::kernels {

// That spans hold their matrices, and the shapes of c += a b fit; or one line on standard error and
// the end of the process.
void require_product(const ConstMatrix& a, const ConstMatrix& b, const Matrix& c);

}  // namespace regroup::kernels
