// All ops. One file per op in this folder: forward and backward side by side, with the equation.
// Every op takes the tape of the current Exec into account; without one it only computes.
#pragma once

#include "fovea/tensor/ops/add.h"
#include "fovea/tensor/ops/cross_entropy.h"
#include "fovea/tensor/ops/embed.h"
#include "fovea/tensor/ops/matmul.h"
#include "fovea/tensor/ops/mul.h"
#include "fovea/tensor/ops/rms_norm.h"
#include "fovea/tensor/ops/rope.h"
#include "fovea/tensor/ops/sdpa.h"
#include "fovea/tensor/ops/select_rows.h"
#include "fovea/tensor/ops/silu.h"
#include "fovea/tensor/ops/view.h"
